"""The table `bench` in files and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
STYLE = {"met": "green", "missed": "red"}


def bench_file(data: Path) -> Path:
    """Where a profile's figures of speed lie: no output of DVC's, since no two runs take equally long."""
    return data / "bench" / "bench.parquet"


def bench_rows(data: Path) -> list[Row]:
    """What the bench of the profile in `data` measured; nothing before its first run."""
    path = bench_file(data)
    return read_table(path, "bench") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace what this device measured before; what others measured stays. Returns all rows."""
    measured = {row["device"] for row in rows}
    kept = [row for row in bench_rows(data) if row["device"] not in measured]
    write_table(bench_file(data), "bench", [*kept, *rows])
    return [*kept, *rows]


def bench_table(rows: Sequence[Row]) -> Table:
    """A figure a line: the ratio's median, its quartiles, the goal and whether it is met; facts below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in (
        ("speed", False),
        ("ratio", True),
        ("quartiles", True),
        ("n", True),
        ("goal", True),
        ("", False),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(
            _what(row),
            number(row["median"]),
            f"{number(row['low'])}–{number(row['high'])}",
            str(row["n"]),
            row["goal"] or "–",
            Text(row["verdict"] or "", style=STYLE.get(row["verdict"], "")),
        )
    return table


def _what(row: Row) -> Text:
    below = "\n".join(line for line in (f"against {row['against']}", row["note"]) if line)
    return Text.assemble((row["name"], "bold"), f"  {row['measured']}\n", (below, "dim"))


def number(value: float) -> str:
    """Three digits that matter: 0.857, 5.31, 24."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def machine_line(row: Row) -> str:
    """What the figures depend on, in one line."""
    return (
        f"{row['device']}, {row['cores']} cores, {row['threads']} torch threads, torch {row['torch']}, {row['dtype']}; "
        f"model {row['model']}. Medians of n pairs (alpha: modules) with their quartiles."
    )
