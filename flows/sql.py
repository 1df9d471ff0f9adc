"""The command that queries results.duckdb: python -m flows.sql "select method, ta_cp from headline" [--format markdown]

--schema describes every view and table, --schema NAME the columns of one. SQL can neither write nor read files. With several
--database, given as FILE, as a repository's folder, or as NAME=FILE, each is a schema, alice.headline, and everyone.headline has
the rows of all with a column `database`.
"""

import argparse
import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from psr.errors import PsrError
from psr.plugs import nearest
from tasks.engine.progress import clean
from tasks.shown.index import database, schema
from tasks.shown.query import RESERVED, Answer, ask, asking_all
from tasks.shown.tables import Table, markdown, table, terminal

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)  # NAME=FILE
WIDE = 10_000  # columns without a terminal: a row stays one line


def main(argv: Sequence[str] | None = None) -> int:
    """Print the answer. Exit status 2, and one line on stderr, for an error."""
    parser = argparse.ArgumentParser(prog="python -m flows.sql", description="Ask the index of results, read-only.")
    parser.add_argument("query", nargs="?", default="", help='SQL, such as "select * from headline"')
    parser.add_argument("--format", choices=sorted(FORMATS), default="table")
    parser.add_argument(
        "--schema", nargs="?", const="", metavar="NAME", help="say what the views hold, or one's columns"
    )
    parser.add_argument(
        "--database",
        action="append",
        metavar="[NAME=]FILE",
        help="an index to ask (default: this repository's); may be repeated",
    )
    options = parser.parse_args(argv)
    try:
        answer = (
            asked(options.database or [str(ROOT)], options.query)
            if options.schema is None
            else described(options.schema)
        )
        FORMATS[options.format](answer)
        sys.stdout.flush()
    except PsrError as error:
        print(clean(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def asked(databases: Sequence[str], query: str) -> Answer:
    """The answer of one database, or of several by name. Raises PsrError as `named`, `ask` and `asking_all` do."""
    if len(databases) == 1 and not _split(databases[0])[0]:
        return ask(_split(databases[0])[1], query)
    with asking_all(named(databases)) as question:
        return question(query)


def named(databases: Sequence[str]) -> dict[str, Path]:
    """name -> index, of NAME=FILE or of a file or folder, which is called like its repository's folder.

    Raises PsrError for a name that is DuckDB's own, and for two of one name or one file."""
    paths: dict[str, Path] = {}
    for text in databases:
        given, path = _split(text)
        folder = path.parent.parent if path.parent.name == "data" else path.parent
        name = given or re.sub(r"\W+", "_", folder.name) or "database"
        if name.lower() in RESERVED:
            raise _not_attached(text, f"{name}, a name of DuckDB's own")
        for other, file in paths.items():
            if file == path:
                raise _not_attached(text, f"the file that is {other} already")
            if other.lower() == name.lower():
                raise _not_attached(text, f"{name}, which is {file} already")
        paths[name] = path
    return paths


def _split(text: str) -> tuple[str, Path]:
    """The name in NAME=FILE, empty without one, and the index."""
    parts = None if Path(text).exists() else NAMED.fullmatch(text)
    path = Path(parts[2] if parts else text).resolve()
    return parts[1] if parts else "", database(path) if path.is_dir() else path


def _not_attached(text: str, got: str) -> PsrError:
    do = "Give each file once and each a name: --database NAME=FILE."
    return PsrError("a database cannot be attached under this name", where=text, got=got, do=do)


def described(name: str) -> Answer:
    """The comment of every view and table; with a name, those of its columns. Raises PsrError for an unknown name."""
    relations = {relation: (comment, columns) for relation, comment, columns in schema()}
    if not name:
        return Answer(("name", "holds"), tuple((relation, comment) for relation, (comment, _) in relations.items()))
    if name not in relations:
        raise PsrError(
            "no such view or table", expected=f"one of {', '.join(nearest(name, relations)[:8])}, …", got=repr(name)
        )
    return Answer(("column", "type", "holds"), tuple(relations[name][1]))


def as_table(answer: Answer) -> None:
    """A table for the terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(_as_text(answer)))
    console.print(f"({len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'})", style="dim", highlight=False)


def as_csv(answer: Answer) -> None:
    """Comma-separated values; control characters are escaped on a terminal only."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([answer.columns, *answer.rows])
    sys.stdout.write(clean(file.getvalue()) if sys.stdout.isatty() else file.getvalue())


def as_json(answer: Answer) -> None:
    """A list of objects, one a row; nan and infinity become null."""
    rows = [dict(zip(answer.columns, map(_finite, row), strict=True)) for row in answer.rows]
    print(json.dumps(rows, indent=1, ensure_ascii=sys.stdout.isatty(), default=str))


def as_markdown(answer: Answer) -> None:
    """A Markdown table with escaped cells, so that model text stays text."""
    print(markdown(_as_text(answer)))


def _as_text(answer: Answer) -> Table:
    """The answer as text, with columns of numbers right-aligned."""
    numeric = [all(isinstance(row[i], int | float | None) for row in answer.rows) for i in range(len(answer.columns))]
    rows = [[_cell(value) for value in row] for row in answer.rows]
    return table([clean(name) for name in answer.columns], rows, align="".join("lr"[one] for one in numeric))


FORMATS = {"table": as_table, "csv": as_csv, "json": as_json, "markdown": as_markdown}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else clean(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
