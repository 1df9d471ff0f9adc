"""data/PROFILE/ablation/ablation.parquet, and the same rows as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tasks.figures.entries import known
from tasks.studies.ablation.goal import MARGIN, chosen, mean, variants_of, verdict, within
from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "ablation/ablation.parquet"  # in a profile's folder
STYLE = {"holds": "green", "fails": "red"}


def ablation_rows(data: Path) -> list[Row]:
    """What was measured in the profile in `data`; nothing before the first run."""
    path = data / FILE
    return read_table(path, "ablation") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace the variants that were measured again; the others stay. Returns all rows."""
    again = {(row["attribute"], row["variant"]) for row in rows}
    kept = [row for row in ablation_rows(data) if (row["attribute"], row["variant"]) not in again]
    merged = [*kept, *({name: known(value) for name, value in row.items()} for row in rows)]
    write_table(data / FILE, "ablation", merged)
    return merged


def ablation_table(rows: Sequence[Row], benchmark: str) -> Table:
    """A variant a line: its difference to the prompt on each attribute over its 95 % interval, best on the search questions first."""
    attributes = sorted({row["attribute"] for row in rows if row["benchmark"] == benchmark})
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{benchmark}: less the prompt's figure", no_wrap=True)
    for name in ("search", *(attribute.partition("/")[2] for attribute in attributes), "mean", "coherence", "within"):
        table.add_column(name, justify="right", max_width=15)
    best = chosen(rows, benchmark)
    for name, own in best_first(rows, benchmark).items():
        every = list(own.values())
        coherent = mean(every, "coherence") - mean(every, "prompt_coherence")
        table.add_row(
            Text(name, "bold" if name == best else ""),
            f"{mean(every, 'ahead_search'):+.1f}",
            *(_cell(own[attribute]) for attribute in attributes),
            f"{mean(every, 'ahead'):+.1f}",
            f"{coherent:+.1f}",
            f"{sum(map(within, every))} of {len(own)}",
        )
    return table


def best_first(rows: Sequence[Row], benchmark: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """variant -> its rows by attribute; the best on the search questions first."""
    own = variants_of(rows, benchmark)
    ordered = sorted(own, key=lambda name: -mean(own[name], "ahead_search"))
    return {name: {row["attribute"]: row for row in own[name]} for name in ordered}


def _cell(row: Mapping[str, Any]) -> Text:
    if row["ahead"] is None:
        return Text("–")
    interval = f"{row['ahead_low']:.0f} to {row['ahead_high']:.0f}"
    return Text.assemble((f"{row['ahead']:+.1f}", STYLE.get(verdict(row), "")), "\n", (interval, "dim"))


def summary(rows: Sequence[Row], benchmark: str) -> str:
    """The goal and what the chosen variant makes of it, in one line."""
    name = chosen(rows, benchmark)
    if name is None:
        return f"{benchmark}: no single layer of rank at most 8 was measured on every attribute."
    own = variants_of(rows, benchmark)[name]
    verdicts = [verdict(row) for row in own]
    counts = f"{verdicts.count('holds')} hold, {verdicts.count('fails')} fail, {verdicts.count('undecided')} undecided"
    goal = f"within {MARGIN[benchmark]:g} points of the prompt" if MARGIN[benchmark] else "at least the prompt's figure"
    met = f"{sum(map(within, own))} of {len(own)} attributes ({counts} by their intervals)"
    return f"{benchmark}: {name}, best on the search questions: {goal} on {met}."
