"""data/PROFILE/adaptation/adaptation.parquet: what was compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "adaptation/adaptation.parquet"  # in a profile's folder


def adaptation_rows(data: Path) -> list[Row]:
    """What was compared on the profile in `data`; nothing before the first run."""
    path = data / FILE
    return read_table(path, "adaptation") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace the rows of the same attributes; those of others stay. Returns all rows."""
    measured = {row["attribute"] for row in rows}
    every = [*(row for row in adaptation_rows(data) if row["attribute"] not in measured), *rows]
    write_table(data / FILE, "adaptation", every)
    return every
