"""Runs timed in alternating pairs, the ratio of their seconds with quartiles, and the goal of a ratio.

The speed of a shared machine changes by the minute. Both runs of a pair follow each other within seconds, so that both
are slowed alike, and every other pair runs in reverse order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from psr.errors import PsrError

Clock = Callable[[], float]
Run = Callable[[], object]


class Ratio(NamedTuple):
    """The median of n ratios and their quartiles."""

    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Figure:
    """The ratio of `measured` to `against`, both in words. note: absolute values. at_least, at_most: the goal of the
    median, if any."""

    name: str
    measured: str
    against: str
    ratio: Ratio
    note: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def row(self) -> dict[str, Any]:
        """Its columns in the table `bench`, without the machine's. A goal reached exactly is met."""
        goal, met = None, None
        if self.at_least is not None:
            goal, met = f"≥ {self.at_least:g}", self.ratio.median >= self.at_least
        elif self.at_most is not None:
            goal, met = f"≤ {self.at_most:g}", self.ratio.median <= self.at_most
        verdict = None if met is None else "met" if met else "missed"
        words = {"name": self.name, "measured": self.measured, "against": self.against, "note": self.note}
        return {**words, **self.ratio._asdict(), "goal": goal, "verdict": verdict}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Median and quartiles of the ratios by pair. Raises PsrError unless both are of one length above 0, finite and positive."""
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if above.shape != below.shape or above.ndim != 1 or len(above) == 0:
        raise PsrError(
            "a ratio needs pairs", expected="two lists of one length, not empty", got=(above.shape, below.shape)
        )
    if not (np.isfinite([above, below]).all() and (above > 0).all() and (below > 0).all()):
        raise PsrError("a ratio needs positive numbers", got=(min(numerators), min(denominators)))
    low, median, high = (float(value) for value in np.quantile(above / below, (0.25, 0.5, 0.75)))
    return Ratio(median, low, high, len(above))


def alternate(
    runs: Sequence[Run],
    repeats: int,
    *,
    clock: Clock = time.perf_counter,
    settle: Run = lambda: None,
    advance: Callable[[int], None] = lambda n: None,
    warm_up: bool = True,
) -> list[list[float]]:
    """Seconds of each run, [run][repeat]; each once a repeat, in alternating order.

    settle(): waits until the device has finished its work; called before and after each timed run.
    advance(1): called after each repeat. warm_up: each run once, untimed, before the first repeat.
    Raises PsrError for fewer than one repeat.
    """
    if repeats < 1:
        raise PsrError("nothing can be timed fewer times than once", expected="repeats of at least 1", got=repeats)
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs if warm_up else ():
        run()
    for repeat in range(repeats):
        order = list(zip(runs, seconds, strict=True))
        for run, times in order if repeat % 2 == 0 else reversed(order):
            settle()
            began = clock()
            run()
            settle()
            times.append(clock() - began)
        advance(1)
    return seconds
