"""The table `adaptation` in files and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "adaptation/adaptation.parquet"  # in a profile's folder
COLUMNS = (
    "trait alignment",
    "coherence",
    "α",
    "drift, nats a token",
    "numbers",
    "fit",
    "to ship",
    "tokens a request",
    "per row",
)


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


def adaptation_table(rows: Sequence[Row]) -> Table:
    """A line a way of adapting, attribute after attribute."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("at the prompt's coherence", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for at, row in enumerate(rows):
        if at == 0 or rows[at - 1]["attribute"] != row["attribute"]:
            table.add_row(row["attribute"], style="dim")
        table.add_row(row["name"], *cells(row))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """A row's figures as text, in the order of COLUMNS."""
    alpha = "–" if row["alpha"] is None else f"{row['alpha']:.3g}" if row["reached"] else "not reached"
    return (
        ranged(row, "trait", 1),
        ranged(row, "coherence", 1),
        alpha,
        ranged(row, "drift", 3),
        f"{row['parameters']:,}",
        f"{row['fit_seconds']:.1f} s",
        size(row["bytes"]),
        f"{row['extra_tokens']:.1f}",
        "yes" if row["per_row"] else "no",
    )


def ranged(row: Row, name: str, digits: int) -> str:
    """A value with its interval: 95.8 (80.0–99.0)."""
    if row[name] is None:
        return "–"
    low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
    return f"{row[name]:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f}–{high:.{digits}f})")


def size(count: int) -> str:
    """Bytes as people say them: 58 B, 6.4 kB, 5.29 MB."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"
