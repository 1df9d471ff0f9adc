"""Ask results.duckdb a question: python -m flows.sql "select method, ta_cp from headline" [--format markdown]

Views: headline, completions, judgements, curves, trait_coherence, alphas, token_strengths, modules, triplets, dropped,
lineage, faithfulness, deviations, delta, delta_strengths, delta_tokens, readability,
bench, claims. Nothing can be written, and no file can be read, from SQL.
"""

import argparse
import csv
import html
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from psr.errors import PsrError
from tasks.engine.terminal import clean
from tasks.shown.query import Answer, ask

ROOT = Path(__file__).resolve().parents[1]
WIDE = 10_000  # columns where nobody watches: a row stays a line


def main(argv: Sequence[str] | None = None) -> int:
    """Print the answer; status 2 and one line on stderr when there is none."""
    options = _parser().parse_args(argv)
    try:
        answer = ask(options.database, options.query)
        FORMATS[options.format](answer)
        sys.stdout.flush()
    except PsrError as error:
        print(clean(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.sql", description="Ask the index of results, read-only.")
    parser.add_argument("query", help='SQL, such as "select * from headline"')
    parser.add_argument("--format", choices=sorted(FORMATS), default="table")
    parser.add_argument("--database", type=Path, default=ROOT / "data" / "results.duckdb", metavar="FILE")
    return parser


def as_table(answer: Answer) -> None:
    """A table for people."""
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    numeric = [all(isinstance(row[i], int | float | None) for row in answer.rows) for i in range(len(answer.columns))]
    for name, right in zip(answer.columns, numeric, strict=True):
        table.add_column(Text(clean(name)), justify="right" if right else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    console.print(f"({len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'})", style="dim", highlight=False)


def as_csv(answer: Answer) -> None:
    """Comma-separated, values as they are; control characters are escaped only where a terminal would obey them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(["" if value is None else value for value in row] for row in answer.rows)
    sys.stdout.write(clean(file.getvalue()) if sys.stdout.isatty() else file.getvalue())


def as_json(answer: Answer) -> None:
    """A list of objects, one a row; what JSON cannot hold (nan, infinity) is null."""
    rows = [dict(zip(answer.columns, map(_finite, row), strict=True)) for row in answer.rows]
    print(json.dumps(rows, indent=1, ensure_ascii=sys.stdout.isatty(), default=str))


def as_markdown(answer: Answer) -> None:
    """A table for a README: cells escaped, so that model text stays text."""
    lines = [answer.columns, ["---"] * len(answer.columns), *answer.rows]
    for line in lines:
        print(f"| {' | '.join(_markdown(value) for value in line)} |")


FORMATS: dict[str, Callable[[Answer], None]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "markdown": as_markdown,
}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else clean(value)


def _markdown(value: Any) -> str:
    return html.escape(_cell(value), quote=False).replace("|", "\\|").replace("\n", "<br>")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
