"""The table data/PROFILE/ablation/ablation.parquet, and its summary against the goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.figures.entries import known
from tasks.studies.ablation.goal import MARGIN, chosen, mean, spares, variants_of, verdict, within
from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
FILE = "ablation/ablation.parquet"  # in a profile's folder


def ablation_rows(data: Path) -> list[Row]:
    """The table's rows of the profile in `data`; empty before the first run."""
    path = data / FILE
    return read_table(path, "ablation") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Add `rows`, replacing those of the same attribute and variant. Returns all rows."""
    again = {(row["attribute"], row["variant"]) for row in rows}
    kept = [row for row in ablation_rows(data) if (row["attribute"], row["variant"]) not in again]
    merged = [*kept, *({name: known(value) for name, value in row.items()} for row in rows)]
    write_table(data / FILE, "ablation", merged)
    return merged


def best_first(rows: Sequence[Row], benchmark: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """variant -> its rows by attribute; the best on the search questions first."""
    group = variants_of(rows, benchmark)
    ordered = sorted(group, key=lambda name: -mean(group[name], "ahead_search"))
    return {name: {row["attribute"]: row for row in group[name]} for name in ordered}


def summary(rows: Sequence[Row], benchmark: str) -> str:
    """The goal and the chosen variant's result, in one line."""
    name = chosen(rows, benchmark)
    if name is None:
        return f"{benchmark}: no single layer of rank at most 8 was measured on every attribute."
    group = variants_of(rows, benchmark)[name]
    verdicts = [verdict(row) for row in group]
    counts = f"{verdicts.count('holds')} hold, {verdicts.count('fails')} fail, {verdicts.count('undecided')} undecided"
    goal = f"within {MARGIN[benchmark]:g} points of the prompt" if MARGIN[benchmark] else "at least the prompt's figure"
    met = f"{sum(map(within, group))} of {len(group)} attributes ({counts} by their intervals)"
    return f"{benchmark}: {name}, best on the search questions: {goal} on {met}."


def spared(rows: Sequence[Row], benchmark: str) -> list[str]:
    """For each variant, best on the search questions first: whether it has the prompt's effect at no more drift, a line each."""
    lines = []
    for name, own in best_first(rows, benchmark).items():
        verdicts = [spares(row) for row in own.values()]
        counts = ", ".join(
            f"{verdicts.count(word)} {word}" for word in ("holds", "fails", "undecided") if word in verdicts
        )
        effect, drift = mean(list(own.values()), "ahead_equal"), mean(list(own.values()), "drift")
        prompt, held = mean(list(own.values()), "prompt_drift"), verdicts.count("holds")
        lines.append(
            f"{name}: the prompt's effect ({effect:+.1f}) at no more drift ({drift:.3f} of {prompt:.3f} nats a token) on {held} of "
            f"{len(own)} attributes ({counts})."
        )
    return lines
