"""Putting the cells of a step together: one table from the tables of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.tables.parquet import read_table, write_table


def gather(cells: Sequence[Path], out: Path, tables: Sequence[str]) -> None:
    """Write out/{table}.parquet with the rows of every cell that has the table, in the cells' order.

    What several cells hold under one id (a pair that is asked under several seeds) stands there once.
    """
    for table in tables:
        files = [cell / f"{table}.parquet" for cell in cells if (cell / f"{table}.parquet").exists()]
        rows = [row for file in files for row in read_table(file, table)]
        write_table(
            out / f"{table}.parquet", table, {row.get("id", place): row for place, row in enumerate(rows)}.values()
        )
