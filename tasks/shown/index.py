"""results.duckdb: an index over the parquet files of all profiles, rebuilt from nothing and moved into place.

The parquet files are the truth (DVC's outputs); the index may be deleted at any time. Readers never meet a lock or half
an index. The tables are described in tasks/sql/staging.sql, the views in tasks/sql/views.sql.
"""

import os
import tempfile
from pathlib import Path

import duckdb

from psr.errors import PsrError
from tasks.tables.parquet import read_table, write_table
from tasks.tables.schemas import SCHEMAS, STAGES

SQL = Path(__file__).parent / "sql"
# DuckDB 2 writes files that 1.x clients (the packaged command line among them) cannot open, unless told otherwise.
FORMAT: dict[str, str | bool | int | float | list[str]] = {"storage_compatibility_version": "v1.2.0"}
KEYS = {
    "pairs": ("profile", "stage", "id"),
    "completions": ("profile", "id"),
    "judgements": ("profile", "id"),
    "triplets": ("profile", "id"),
    "dropped": ("profile", "completion"),
    "modules": ("profile", "id"),
    "curves": ("profile", "module", "epoch"),
    "candidates": ("profile", "module", "seed", "point", "alpha"),
    "draws": ("profile", "stage", "attribute", "sampled"),
    "strengths": ("profile", "completion", "layer", "position"),
    "headline": ("profile", "benchmark", "model", "attribute", "method"),
    "faithfulness": ("profile", "attribute", "method", "seed", "alpha", "layer"),
    "deviations": ("profile", "pair", "method", "seed", "alpha", "layer"),
    "delta": ("profile", "attribute", "seed", "kind", "layer", "r"),
    "delta_strengths": ("profile", "attribute", "seed", "kind", "layer"),
    "delta_tokens": ("profile", "completion", "seed", "kind", "layer", "position"),
    "readability": ("profile", "attribute", "seed", "kind", "reads", "reader", "layer"),
    "bench": ("profile", "device", "name"),
    "claims": ("profile", "claim", "part"),
    "adaptation": ("profile", "attribute", "method"),
    "ablation": ("profile", "attribute", "variant"),
    "ifeval": ("profile", "benchmark", "model", "attribute", "method"),
    "axbench": ("profile", "benchmark", "model", "attribute", "method"),
    "headline_seeds": ("profile", "benchmark", "model", "attribute", "method", "seed"),
    "ifeval_seeds": ("profile", "benchmark", "model", "attribute", "method", "seed"),
    "axbench_seeds": ("profile", "benchmark", "model", "attribute", "method", "seed"),
}


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
        files = _files(target.parent, Path(spare))
        part = Path(spare) / target.name
        with duckdb.connect(str(part), config=FORMAT) as connection:
            connection.begin()
            _stage(connection, files)
            for name, key in KEYS.items():
                _check_key(connection, name, key)
            connection.execute((SQL / "views.sql").read_text())
            connection.commit()
        os.replace(part, target)
    return target


def _files(data: Path, spare: Path) -> dict[str, list[Path]]:
    """Every table's files in a fixed order, an empty typed one last."""
    return {
        name: [
            *(path for stage in STAGES[name] for path in sorted(data.glob(f"*/{stage}/{name}.parquet"))),
            write_table(spare / "none" / "none" / f"{name}.parquet", name, []),
        ]
        for name in SCHEMAS
    }


def _stage(connection: duckdb.DuckDBPyConnection, files: dict[str, list[Path]]) -> None:
    for name, paths in files.items():
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
