"""A row of the table `claims`: one part of a claim, measured or not, with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psr.evaluation.bootstrap import Interval
from psr.evaluation.claims import CLAIMS, GOAL, combined, verdict
from tasks.figures.entries import known

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What of a claim is compared, in words; published: the paper's own difference in the claim's unit."""

    claim: int
    name: str
    compared: str
    published: float | None = None


@dataclass(frozen=True)
class Measured:
    """A difference with its interval, over how many seeds and which attributes; sql: the question that gives it.

    beside: the same difference at Cp−2, which decides nothing.
    """

    interval: Interval
    seeds: int
    attributes: Sequence[str]
    sql: str
    notes: Sequence[str] = ()
    beside: Interval | None = None


def claim_row(part: Part, found: Measured | str) -> Row:
    """`found`: the figure, or why there is none."""
    claim = CLAIMS[part.claim]
    row = {
        "claim": claim.number,
        "says": claim.says,
        "part": part.name,
        "compared": part.compared,
        "published": part.published,
        "unit": claim.unit,
        "margin": claim.margin,
        "why": claim.why,
    }
    if isinstance(found, str):
        return {
            **row,
            "value": None,
            "low": None,
            "high": None,
            **_beside(None),
            "verdict": "not measured",
            "seeds": 0,
            "attributes": 0,
            "which": "",
            "note": found,
            "sql": None,
        }
    value, low, high = found.interval
    return {
        **row,
        "value": known(value),
        "low": known(low),
        "high": known(high),
        **_beside(found.beside),
        "verdict": verdict(found.interval, claim.margin),
        "seeds": found.seeds,
        "attributes": len(found.attributes),
        "which": ", ".join(found.attributes),
        "note": "; ".join([*few_seeds(found.seeds), *found.notes]),
        "sql": found.sql,
    }


def _beside(interval: Interval | None) -> Row:
    return dict(zip(("cp2", "cp2_low", "cp2_high"), map(known, interval or (None,) * 3), strict=True))


def few_seeds(seeds: int) -> list[str]:
    """A warning below the goal."""
    return [] if seeds >= GOAL else [f"{seeds} seed{'' if seeds == 1 else 's'}: goal {GOAL}"]


def with_claims_verdict(rows: Sequence[Row]) -> list[Row]:
    """Every row with the verdict of its whole claim beside its own."""
    parts: dict[int, list[Any]] = {}
    for row in rows:
        parts.setdefault(row["claim"], []).append(row["verdict"])
    return [{**row, "claim_verdict": combined(parts[row["claim"]])} for row in rows]
