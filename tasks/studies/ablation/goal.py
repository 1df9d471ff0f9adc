"""The ablation's goal, fixed beforehand, and the verdict of its rows.

    persona    ONE layer of rank at most 8 within 3 points of the prompt, at the prompt's own coherence
    ifeval     format instructions followed by that one layer at least as well as by the prompt

Settings are chosen on the search questions, once for all attributes of a benchmark; the verdict comes from the
evaluation questions.

Beside it, of any variant: the prompt's effect at no more drift than the prompt's (`spares`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MARGIN = {"persona": 3.0, "ifeval": 0.0}
RANK = 8
Row = Mapping[str, Any]


def verdict(row: Row) -> str:
    """ "holds" or "fails" where the whole interval of the difference to the prompt lies on one side of the margin."""
    limit = -MARGIN[row["benchmark"]]
    if row["ahead_low"] is None:
        return "undecided"
    return "holds" if row["ahead_low"] >= limit else "fails" if row["ahead_high"] < limit else "undecided"


def spares(row: Row) -> str:
    """Whether the prompt's effect is reached at no more drift than the prompt's.

    "holds": every seed reaches it on the search questions, its interval on the evaluation questions does not lie below it,
    and the interval of the difference in drift lies wholly at or below 0. "fails": one of the two intervals lies wholly on
    the wrong side. Otherwise "undecided".
    """
    effect, drift = row["ahead_equal_high"], (row["drift_more_low"], row["drift_more_high"])
    if effect is None or None in drift:
        return "undecided"
    if effect < 0 or drift[0] > 0:
        return "fails"
    return "holds" if row["equal"] == row["seeds"] and drift[1] <= 0 else "undecided"


def within(row: Row) -> bool:
    """Whether the figure itself lies within the margin."""
    return bool(row["ahead"] is not None and row["ahead"] >= -MARGIN[row["benchmark"]])


def variants_of(rows: Sequence[Row], benchmark: str) -> dict[str, list[Row]]:
    """variant -> its rows on the benchmark, for variants that were measured on every attribute of it."""
    measured = [row for row in rows if row["benchmark"] == benchmark]
    by_variant: dict[str, list[Row]] = {}
    for row in measured:
        by_variant.setdefault(row["variant"], []).append(row)
    attributes = {row["attribute"] for row in measured}
    return {name: group for name, group in by_variant.items() if len(group) == len(attributes)}


def chosen(rows: Sequence[Row], benchmark: str) -> str | None:
    """The one-layer variant of rank at most 8 with the best mean on the search questions; then the smallest, then by name."""
    means = [
        (-round(mean(group, "ahead_search"), 6), group[0]["numbers"], name)
        for name, group in variants_of(rows, benchmark).items()
        if group[0]["layer"] is not None and group[0]["rank"] <= RANK
    ]
    return min(means)[2] if means else None


def mean(rows: Sequence[Row], column: str) -> float:
    """The mean of a column over the rows that have it; nan without any."""
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values) / len(values) if values else float("nan")
