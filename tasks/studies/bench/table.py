"""The table data/PROFILE/bench/bench.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "bench/bench.parquet"  # no output of a step, since no two runs take equally long


def bench_rows(data: Path) -> list[Row]:
    """The table's rows of the profile in `data`; empty before the first run."""
    path = data / FILE
    return read_table(path, "bench") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> None:
    """Add `rows`, replacing earlier ones of the same device."""
    measured = {row["device"] for row in rows}
    kept = [row for row in bench_rows(data) if row["device"] not in measured]
    write_table(data / FILE, "bench", [*kept, *rows])
