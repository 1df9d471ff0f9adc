"""One figure of the bench: what is divided by what, what it has to reach, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tasks.studies.bench.pairs import Ratio

Verdict = Literal["met", "missed"]


@dataclass(frozen=True)
class Goal:
    """What a median has to reach: at least `value`, or at most it."""

    value: float
    at_least: bool = True

    def verdict(self, median: float) -> Verdict:
        """ "met" or "missed"; reaching it exactly is meeting it."""
        return "met" if (median >= self.value if self.at_least else median <= self.value) else "missed"

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """`measured` divided by `against`, both in words; goal None: told, not judged. note: absolute facts beside it."""

    name: str
    measured: str
    against: str
    ratio: Ratio
    goal: Goal | None = None
    note: str = ""

    def row(self) -> dict[str, Any]:
        """Its columns in the table `bench`, without the machine's."""
        goal, median = self.goal, self.ratio.median
        return {
            "name": self.name,
            "measured": self.measured,
            "against": self.against,
            "goal": None if goal is None else str(goal),
            "median": median,
            "low": self.ratio.low,
            "high": self.ratio.high,
            "n": self.ratio.n,
            "verdict": None if goal is None else goal.verdict(median),
            "note": self.note,
        }
