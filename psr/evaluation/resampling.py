"""Means and standard errors over questions, for many resamples of the questions at once.

A resample is a row of counts: how often each question was drawn. The estimate on the data itself is the row of ones.
Unscored questions are nan: every mean leaves them out.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def resample(questions: int, resamples: int, seed: int, stream: int) -> Array:
    """Counts [resample, question] of drawing `questions` questions with replacement. Streams are independent."""
    generator = np.random.default_rng([seed, stream])
    return generator.multinomial(questions, np.full(questions, 1 / questions), size=resamples).astype(np.float64)


def once(questions: int) -> Array:
    """The counts [1, question] of the data itself: ones."""
    return np.ones((1, questions))


def mean_and_error(values: Array, counts: Array) -> tuple[Array, Array]:
    """Mean and standard error of each row of `values` under each resample, unscored questions left out.

    values: [row, question], nan = unscored; counts: [resample, question]. Returns two arrays [resample, row]:
    the mean (nan where nothing is scored) and s/√n with n − 1 in s (0 where fewer than two are scored).
    """
    scored = ~np.isnan(values)
    centre = np.nanmean(values) if scored.any() else 0.0  # keeps the difference of squares exact enough
    centred = np.where(scored, values - centre, 0.0)
    n = counts @ scored.astype(np.float64).T
    mean = np.divide(counts @ centred.T, n, out=np.full(n.shape, np.nan), where=n > 0)
    spread = np.maximum(counts @ (centred**2).T - n * mean**2, 0.0)
    error = np.sqrt(np.divide(spread, (n - 1) * n, out=np.zeros(n.shape), where=n > 1))
    if scored.any():  # a mean lies within its values, rounding or not
        mean = np.clip(mean + centre, np.nanmin(values), np.nanmax(values))
    return mean, error
