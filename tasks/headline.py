"""The headline table as a terminal shows it: trait alignment at the prompt's coherence and at coherence 80."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


def headline_rows(root: Path, profile: str) -> list[Row]:
    """The rows of the profile's headline table; none before there are results."""
    path = root / "data" / profile / "results" / "headline.parquet"
    if not path.exists():
        return []
    from tasks.tables import read_table

    return read_table(path, "headline")


def headline_table(rows: list[Row]) -> Table:
    """Methods down, attributes across, then means: TA@Cp [95 % interval], and TA@C80 / TA@Cp in the mean."""
    attributes = list(dict.fromkeys(row["attribute"] for row in rows))
    methods = list(dict.fromkeys(row["name"] for row in rows))
    cells = {(row["name"], row["attribute"]): row for row in rows}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trait alignment at the prompt's coherence")
    for name in [*(a.partition("/")[2] or a for a in attributes), "mean", "mean at coherence 80"]:
        table.add_column(Text(name), justify="right")
    for method in methods:
        found = [cells.get((method, attribute)) for attribute in attributes]
        means = (_mean(found, "ta_cp"), _mean(found, "ta_c80"))
        table.add_row(Text(method), *map(_cell, found), *(_number(mean) for mean in means))
    return table


def _cell(row: Row | None) -> str:
    if row is None or row["ta_cp"] is None:
        return "–"
    return f"{row['ta_cp']:.1f} ({_number(row['ta_cp_low'], 0)}–{_number(row['ta_cp_high'], 0)})"


def _mean(rows: list[Row | None], column: str) -> float | None:
    values = [row[column] for row in rows if row is not None and row[column] is not None]
    return sum(values) / len(values) if len(values) == len(rows) and values else None


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
