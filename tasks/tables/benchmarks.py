"""What the step `complete` wrote down of the benchmarks, for steps that import none: their names and their fit packages."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.tables.parquet import read_table


class Known(NamedTuple):
    """A benchmark's own name, with which its attributes' keys begin, and its package: fields of the fit settings."""

    name: str
    package: dict[str, float | bool]


def benchmarks_by_origin(complete: Path) -> dict[str, Known]:
    """A benchmark's name in the parameters (`persona`, `my_lab.songs:SONGS`) -> what is known of it."""
    return {
        row["origin"]: Known(row["benchmark"], {name: row[name] for name in ("regulariser", "normalise")})
        for row in read_table(complete / "benchmarks.parquet", "benchmarks")
    }
