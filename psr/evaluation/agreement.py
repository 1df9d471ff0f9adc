"""How far two judges agree on the same answers, with intervals over questions.

    equal       share of answers with equal verdicts; a verdict is yes from half of the scale up
    kappa       (equal − chance) / (1 − chance), chance being the share that independent judges would have (Cohen 1960)
    auc         chance that the first judge's value is higher on an answer with the other's yes than on one with its no, ties
                counted half; auc_other: the same with the judges exchanged
    spearman    correlation of ranks, ties at their mean rank (Spearman 1904)
    distance    mean |a − b|

What the answers cannot tell is None and never 0: kappa and AUC where a verdict is always the same, a correlation where a
judge gives one value only. Intervals are percentiles of a bootstrap that draws questions with all their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psr.errors import PsrError
from psr.evaluation.bootstrap import EVALUATE, LEVEL, RESAMPLES, Interval, interval_of
from psr.evaluation.resampling import Array, once, resample

HALF = 0.5  # of the scale
AT_ONCE = 2_000_000  # resamples × answers in memory


@dataclass(frozen=True)
class Agreement:
    """The figures of the file's head, None where undefined. n: answers that both judges rated; missing, missing_other: those that
    the first and the other judge gave no value; mean, mean_other: of the n answers' values, 0 to 1."""

    n: int
    missing: int
    missing_other: int
    mean: float | None
    mean_other: float | None
    equal: Interval | None
    kappa: Interval | None
    auc: Interval | None
    auc_other: Interval | None
    spearman: Interval | None
    distance: Interval | None


def agreement_of(
    values: ArrayLike,
    other: ArrayLike,
    questions: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Agreement:
    """The agreement of two judges. values, other: [answer], 0 to 1, nan where the judge gave none; questions: of each answer.

    There is no interval (its ends are nan) where all answers are to one question. Raises PsrError for unequal lengths.

    Example:
        agreement_of([0.9, 0.2, 0.6], [1.0, 0.0, 0.3], ["Rain?", "Rain?", "Tea?"]).equal.value  # 2 of 3
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (values, other))
    if not a.shape == b.shape == (len(questions),):
        raise PsrError(
            "two judges' values are not of the same answers",
            expected=f"{len(questions)} values of each, one an answer",
            got=f"{a.shape} and {b.shape}",
        )
    missing, missing_other = np.isnan(a), np.isnan(b)
    rated = ~missing & ~missing_other
    asked, index = np.unique(np.array(list(questions), dtype=object)[rated], return_inverse=True)
    a, b = a[rated], b[rated]
    estimate = _Estimate(a, b, index, len(asked), resamples, seed, level)
    return Agreement(
        len(a),
        int(missing.sum()),
        int(missing_other.sum()),
        float(a.mean()) if len(a) else None,
        float(b.mean()) if len(b) else None,
        estimate(equal_verdicts),
        estimate(kappa),
        estimate(auc),
        estimate(lambda a, b, weights: auc(b, a, weights)),
        estimate(spearman),
        estimate(distance),
    )


@dataclass(frozen=True, eq=False)
class _Estimate:
    """A statistic of both judges' values [answer], with its interval. question: [answer], its number of `questions`."""

    a: Array
    b: Array
    question: NDArray[np.intp]
    questions: int
    resamples: int
    seed: int
    level: float

    def __call__(self, statistic: Callable[[Array, Array, Array], Array]) -> Interval | None:
        if not len(self.a):
            return None
        value = float(statistic(self.a, self.b, once(len(self.a)))[0])
        if np.isnan(value):
            return None
        if self.questions < 2:
            return Interval(value, float("nan"), float("nan"))
        counts = resample(self.questions, self.resamples, self.seed, EVALUATE)
        blocks = np.array_split(counts, -(-counts.shape[0] * len(self.a) // AT_ONCE))
        samples = [statistic(self.a, self.b, block[:, self.question]) for block in blocks]
        return interval_of(value, np.concatenate(samples), self.level)


def equal_verdicts(a: Array, b: Array, weights: Array) -> Array:
    """Share of equal verdicts [resample]. a, b: [answer]; weights: [resample, answer], how often each answer counts."""
    return weights @ ((a >= HALF) == (b >= HALF)) / weights.sum(axis=1)


def kappa(a: Array, b: Array, weights: Array) -> Array:
    """Cohen's kappa of the verdicts [resample], nan where a judge's verdict is always the same. Arguments as above."""
    yes, yes_other = (weights @ (side >= HALF) / weights.sum(axis=1) for side in (a, b))
    chance = yes * yes_other + (1 - yes) * (1 - yes_other)
    vary = yes * (1 - yes) * yes_other * (1 - yes_other) > 0
    return _divided(equal_verdicts(a, b, weights) - chance, 1 - chance, vary)


def auc(a: Array, b: Array, weights: Array) -> Array:
    """AUC of the values `a` against the verdicts of `b` [resample], nan where these are all the same. Arguments as above."""
    yes = _by_value(a, weights * (b >= HALF))
    no = _by_value(a, weights * (b < HALF))
    wins = (yes * (no.cumsum(axis=1) - no / 2)).sum(axis=1)
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    return _divided(wins, pairs, pairs > 0)


def spearman(a: Array, b: Array, weights: Array) -> Array:
    """Correlation of ranks [resample], nan where a judge gives one value only. Arguments as above."""
    total = weights.sum(axis=1, keepdims=True)
    ranks = (_ranks(side, weights) for side in (a, b))
    x, y = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in ranks)
    spread, spread_other = ((weights * side**2).sum(axis=1) for side in (x, y))
    product = spread * spread_other
    return _divided((weights * x * y).sum(axis=1), np.sqrt(product), product > 0).clip(-1, 1)


def distance(a: Array, b: Array, weights: Array) -> Array:
    """Mean absolute difference [resample]. Arguments as above."""
    return weights @ np.abs(a - b) / weights.sum(axis=1)


def _by_value(values: Array, weights: Array) -> Array:
    """Sums of `weights` over the answers of each distinct value, ascending: [resample, value]."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    return np.add.reduceat(weights[:, order], starts, axis=1)


def _ranks(values: Array, weights: Array) -> Array:
    """The mean rank of each answer among those drawn, [resample, answer]."""
    drawn = _by_value(values, weights)
    ranks = drawn.cumsum(axis=1) - drawn / 2 + 0.5
    return ranks[:, np.unique(values, return_inverse=True)[1]]


def _divided(above: Array, below: Array, defined: NDArray[np.bool_]) -> Array:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=defined)
