"""results.duckdb: an index over the parquet files of all profiles and the records of runs, rebuilt from nothing and moved into place.

The parquet files are the truth (DVC's outputs); the index may be deleted at any time. Readers never meet a lock or half
an index. The tables are described in sql/staging.sql beside this file, the views in sql/views.sql.
"""

import os
import tempfile
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from psr.errors import PsrError
from tasks.shown.query import Question, answer
from tasks.shown.runs import write_runs
from tasks.tables.judge_answers import judge_answers
from tasks.tables.parquet import read_table, write_table
from tasks.tables.schemas import SCHEMAS, STAGES

SQL = Path(__file__).parent / "sql"
# DuckDB 2 writes files that 1.x clients (the packaged command line among them) cannot open, unless told otherwise.
FORMAT: dict[str, str | bool | int | float | list[str]] = {"storage_compatibility_version": "v1.2.0"}
KEYS: dict[str, tuple[str, ...]] = {  # beside the profile
    "pairs": ("stage", "id"),
    **dict.fromkeys(("completions", "judgements", "triplets", "modules"), ("id",)),
    "calibrations": ("attribute",),
    "dropped": ("completion",),
    "curves": ("module", "epoch"),
    "candidates": ("module", "seed", "point", "alpha"),
    "draws": ("stage", "attribute", "sampled"),
    "strengths": ("completion", "layer", "position"),
    "faithfulness": ("attribute", "method", "seed", "alpha", "layer"),
    "deviations": ("pair", "method", "seed", "alpha", "layer"),
    "delta": ("attribute", "seed", "kind", "layer", "r"),
    "delta_strengths": ("attribute", "seed", "kind", "layer"),
    "delta_tokens": ("completion", "seed", "kind", "layer", "position"),
    "readability": ("attribute", "seed", "kind", "reads", "reader", "layer"),
    "bench": ("device", "name"),
    "claims": ("claim", "part"),
    "adaptation": ("attribute", "method"),
    "ablation": ("attribute", "variant"),
    "side_effects": ("attribute", "method", "measure", "turn"),
    "verdicts": ("judge", "completion", "dimension"),
    "agreement": ("attribute", "dimension", "judge", "other"),
    "benchmarks": ("benchmark",),
    "measures": ("benchmark", "figure"),
    "published": ("benchmark", "method", "position"),
    "figures": ("benchmark", "model", "attribute", "method", "figure"),
    "figures_seeds": ("benchmark", "model", "attribute", "method", "figure", "seed"),
    "runs": ("id",),
    "runs_steps": ("run", "step"),
}

COMMENTS = """SELECT c.table_name, c.column_name, coalesce(own.comment, view.comment, general.comment) AS comment
    FROM duckdb_columns() c
    LEFT JOIN column_comments own ON own.name = c.table_name || '.' || c.column_name
    LEFT JOIN column_comments view ON view.name = regexp_replace(c.table_name, '^stg_|_seeds$', '', 'g') || '.' || c.column_name
    LEFT JOIN column_comments general ON general.name = c.column_name
    WHERE NOT c.internal AND coalesce(own.comment, view.comment, general.comment) IS NOT NULL"""
RELATIONS = """SELECT view_name, coalesce(comment, '') FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT table_name, coalesce(comment, '') FROM duckdb_tables() WHERE NOT internal
    ORDER BY starts_with(view_name, 'stg_'), view_name"""
COLUMNS = """SELECT table_name, column_name, data_type, coalesce(comment, '') FROM duckdb_columns() WHERE NOT internal
    ORDER BY table_name, column_index"""


def database(root: Path | str) -> Path:
    """Where the index of the repository at `root` lies."""
    return Path(root) / "data" / "results.duckdb"


def rebuild(root: Path | str) -> Path:
    """Build data/results.duckdb from data/{profile}/{stage}/*.parquet of all profiles. Returns its path.

    Raises PsrError when a table is damaged or a key is doubled or empty; the index of before then stays in place.
    """
    target = database(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".index-") as spare:
        part = Path(spare) / target.name
        with duckdb.connect(str(part), config=FORMAT) as connection:
            connection.begin()
            files, kept = (
                _files(target.parent, "*", Path(spare)),
                Path(spare) / "kept" / "judges" / "judge_answers.parquet",
            )
            files["judge_answers"].append(write_table(kept, "judge_answers", judge_answers(root)))
            _build(connection, files, write_runs(Path(root), Path(spare)))
            _describe(connection)
            connection.commit()
        os.replace(part, target)
    return target


@contextmanager
def profile_index(data: Path, names: Iterable[str]) -> Iterator[Question]:
    """Yields `question(sql, parameters=())` to the same views over the folder of one profile alone, in memory.

    names: the tables that are read; the others are empty. Raises PsrError as `rebuild` does.
    """
    wanted = set(names)
    with tempfile.TemporaryDirectory() as spare, duckdb.connect() as connection:
        _build(connection, _files(data.parent, data.name, Path(spare), wanted), write_runs(None, Path(spare)))
        yield partial(answer, connection)


def _files(data: Path, profile: str, spare: Path, names: Container[str] = SCHEMAS) -> dict[str, list[Path]]:
    """The files of every table, those of `names`, in a fixed order; an empty typed one last."""
    stages = {name: STAGES[name] if name in names else () for name in SCHEMAS}
    return {
        name: [
            *(path for stage in own for path in sorted(data.glob(f"{profile}/{stage}/{name}.parquet"))),
            write_table(spare / "none" / "none" / f"{name}.parquet", name, []),
        ]
        for name, own in stages.items()
    }


def _build(connection: duckdb.DuckDBPyConnection, files: dict[str, list[Path]], runs: dict[str, list[Path]]) -> None:
    _stage(connection, files, runs)
    for name, key in KEYS.items():
        _check_key(connection, name, ("profile", *key))
    connection.execute((SQL / "views.sql").read_text())


def _describe(connection: duckdb.DuckDBPyConnection) -> None:
    """Comment on the columns of every view and table."""
    connection.execute((SQL / "columns.sql").read_text())
    for view, column, comment in connection.execute(COMMENTS).fetchall():
        literal = comment.replace("'", "''")
        connection.execute(f"COMMENT ON COLUMN {view}.{column} IS '{literal}'")
    connection.execute("DROP TABLE column_comments")


def schema() -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """(name, comment, [(column, type, comment)]) of every view and then of every table."""
    with tempfile.TemporaryDirectory() as spare, duckdb.connect() as connection:
        _build(connection, _files(Path(spare), "none", Path(spare)), write_runs(None, Path(spare)))
        _describe(connection)
        columns: dict[str, list[tuple[str, str, str]]] = {}
        for name, *column in connection.execute(COLUMNS).fetchall():
            columns.setdefault(name, []).append((column[0], column[1], column[2]))
        return [(name, comment, columns[name]) for name, comment in connection.execute(RELATIONS).fetchall()]


def _stage(connection: duckdb.DuckDBPyConnection, files: dict[str, list[Path]], runs: dict[str, list[Path]]) -> None:
    for name, paths in {**files, **runs}.items():
        connection.execute(f"SET VARIABLE {name} = ?", [[str(path) for path in paths]])
    try:
        connection.execute((SQL / "staging.sql").read_text())
    except duckdb.Error as error:
        for name, paths in files.items():
            for path in paths:
                read_table(path, name)  # says which file it is, in our words
        where, got = SQL / "staging.sql", str(error).splitlines()[0]
        raise PsrError("the index cannot be built", where=where, got=got) from error


def _check_key(connection: duckdb.DuckDBPyConnection, name: str, key: tuple[str, ...]) -> None:
    columns = ", ".join(key)
    empty = " OR ".join(f"{column} IS NULL" for column in key)
    found = connection.execute(
        f"SELECT {columns}, count(*) FROM stg_{name} GROUP BY ALL HAVING count(*) > 1 OR {empty} ORDER BY ALL LIMIT 1"  # noqa: S608
    ).fetchone()
    if found:
        values = ", ".join(f"{column} {value!r}" for column, value in zip(key, found[:-1], strict=True))
        raise PsrError(
            "a key is not unique or is empty",
            where=f"table {name}",
            expected=f"one row per {columns}",
            got=f"{found[-1]} rows for {values}",
            do="Run the stages that write this table again.",
        )
