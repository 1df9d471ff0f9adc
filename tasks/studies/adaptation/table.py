"""The table data/PROFILE/adaptation/adaptation.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "adaptation/adaptation.parquet"  # in a profile's folder


def adaptation_rows(data: Path) -> list[Row]:
    """The table's rows of the profile in `data`; empty before the first run."""
    path = data / FILE
    return read_table(path, "adaptation") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Add `rows`, replacing those of the same attributes. Returns all rows."""
    measured = {row["attribute"] for row in rows}
    every = [*(row for row in adaptation_rows(data) if row["attribute"] not in measured), *rows]
    write_table(data / FILE, "adaptation", every)
    return every
