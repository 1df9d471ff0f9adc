"""The table data/PROFILE/side_effects/side_effects.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "side_effects/side_effects.parquet"  # in a profile's folder


def side_effect_rows(data: Path) -> list[Row]:
    """The table's rows of the profile in `data`; empty before the first run."""
    path = data / FILE
    return read_table(path, "side_effects") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Add `rows`, replacing those of the same attributes: all subjects of one are compared on the same questions.

    Returns all rows."""
    measured = {row["attribute"] for row in rows}
    every = [*(row for row in side_effect_rows(data) if row["attribute"] not in measured), *rows]
    write_table(data / FILE, "side_effects", every)
    return every
