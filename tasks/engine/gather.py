"""Putting the parts of a stage together: one part an attribute, one table from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.engine.scratch import Scratch
from tasks.tables.parquet import read_table, write_table


def part(scratch: Scratch, name: str, write: Callable[[Path], None]) -> Path:
    """The folder of a finished part: found in `scratch`, or written by `write(folder)` and kept there."""

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        write(folder)

    return scratch.get(name) or scratch.put(name, fill)


@task(cache_policy=NO_CACHE)
def gather(parts: Sequence[Path], out: Path, tables: Sequence[str]) -> None:
    """Write out/{table}.parquet with the rows of every part, in the parts' order.

    What several parts hold under one id (a pair that is asked under several seeds) stands there once.
    """
    for table in tables:
        rows = [row for p in parts for row in read_table(p / f"{table}.parquet", table)]
        write_table(
            out / f"{table}.parquet", table, {row.get("id", place): row for place, row in enumerate(rows)}.values()
        )
