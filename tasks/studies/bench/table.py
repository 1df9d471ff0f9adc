"""The table `bench` in files and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "bench/bench.parquet"  # no output of DVC's, since no two runs take equally long
STYLE = {"met": "green", "missed": "red"}


def bench_rows(data: Path) -> list[Row]:
    """What the bench of the profile in `data` measured; nothing before its first run."""
    path = data / FILE
    return read_table(path, "bench") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> None:
    """Replace what this device measured before; what others measured stays."""
    measured = {row["device"] for row in rows}
    kept = [row for row in bench_rows(data) if row["device"] not in measured]
    write_table(data / FILE, "bench", [*kept, *rows])


def bench_table(rows: Sequence[Row]) -> Table:
    """A figure a line: the ratio's median, its quartiles, the goal and whether it is met; facts below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("speed")
    for name in ("ratio", "quartiles", "n", "goal"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        below = "\n".join(line for line in (f"against {row['against']}", row["note"]) if line)
        table.add_row(
            Text.assemble((row["name"], "bold"), f"  {row['measured']}\n", (below, "dim")),
            number(row["median"]),
            f"{number(row['low'])}–{number(row['high'])}",
            str(row["n"]),
            row["goal"] or "–",
            Text(row["verdict"] or "", style=STYLE.get(row["verdict"], "")),
        )
    return table


def number(value: float) -> str:
    """Three digits that matter: 0.857, 5.31, 24."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def machine_line(row: Row) -> str:
    """What the figures depend on, in one line."""
    return (
        f"{row['device']}, {row['cores']} cores, {row['threads']} torch threads, torch {row['torch']}, {row['dtype']}; "
        f"model {row['model']}. Medians of n pairs (alpha: modules) with their quartiles."
    )
