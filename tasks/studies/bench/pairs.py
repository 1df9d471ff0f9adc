"""Two things timed in turn, and the ratio of their speeds with its spread.

A machine that others use gets slower and faster by the minute. Both sides of a pair run within seconds of each other,
so that what slows one slows the other, and every other pair runs them the other way round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from psr.errors import PsrError

Clock = Callable[[], float]
Run = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """The median of n ratios and their quartiles."""

    median: float
    low: float
    high: float
    n: int


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """The ratios pair by pair. Raises PsrError unless there are as many of both, at least one, all finite and positive."""
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
    """Seconds of each run, [run][repeat]; all of them once a repeat, in turn forwards and backwards.

    settle(): waits until the device has done what it was given; called before and after each timed run.
    advance(1): called after each repeat. warm_up: each run once, untimed, before the first repeat.
    Raises PsrError for fewer than one repeat.
    """
    if repeats < 1:
        raise PsrError("nothing can be timed fewer times than once", expected="repeats of at least 1", got=repeats)
    seconds: list[list[float]] = [[0.0] * repeats for _ in runs]
    for run in runs if warm_up else ():
        run()
    for repeat in range(repeats):
        order = range(len(runs)) if repeat % 2 == 0 else reversed(range(len(runs)))
        for i in order:
            seconds[i][repeat] = _timed(runs[i], clock, settle)
        advance(1)
    return seconds


def _timed(run: Run, clock: Clock, settle: Run) -> float:
    settle()
    began = clock()
    run()
    settle()
    return clock() - began
