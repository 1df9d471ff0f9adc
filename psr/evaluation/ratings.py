"""AxBench's figure: the harmonic mean of three ratings from 0 to 2, at the best strength.

Wu et al. 2025 (arXiv:2501.17148): per concept the factor with the best mean on one half of the instructions is chosen,
and the figure is the mean at that factor on the other half. Intervals repeat the choice, as in bootstrap.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import EVALUATE, RESAMPLES, SEARCH, Figure, figure_of
from psr.evaluation.resampling import Array, mean_and_error, once, resample

TOP = 2.0


class Strength(NamedTuple):
    """A factor that the evaluation needs. share: of resamples that choose it; chosen: whether the data itself does."""

    alpha: float
    share: float
    chosen: bool


def harmonic_mean(ratings: ArrayLike) -> Array:
    """ratings [..., rating] -> [...]: their harmonic mean, 0 if any is 0, nan if any is nan (not rated)."""
    values = np.asarray(ratings, dtype=np.float64)
    positive = (values > 0).all(axis=-1)
    inverse = (1 / np.where(values > 0, values, 1.0)).mean(axis=-1)
    return np.where(np.isnan(values).any(axis=-1), np.nan, np.where(positive, 1 / inverse, 0.0))


def strengths(
    search: Scores, *, resamples: int = RESAMPLES, seed: int = 0, min_share: float = 0.01
) -> tuple[Strength, ...]:
    """The factors that the search questions choose: on the data itself, or in at least `min_share` of their resamples.

    search.trait: harmonic mean [factor, question]; search.coherence is ignored.
    """
    chosen = int(_best(search, once(search.questions))[0])
    drawn = _best(search, resample(search.questions, resamples, seed, SEARCH))
    shares = np.bincount(drawn, minlength=len(search.alphas)) / resamples
    return tuple(
        Strength(search.alphas[i], float(share), i == chosen)
        for i, share in enumerate(shares)
        if share >= min_share or i == chosen
    )


def at_best_strength(search: Scores, evaluation: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Figure:
    """The evaluation's mean at the factor that the search questions choose among the evaluation's factors.

    search, evaluation: harmonic mean as `trait` [factor, question], on other questions. Raises PsrError when a factor
    was not searched.
    """
    options = search.at(evaluation.alphas)
    row = int(_best(options, once(options.questions))[0])
    drawn = _best(options, resample(options.questions, resamples, seed, SEARCH))
    means, _ = mean_and_error(evaluation.trait, resample(evaluation.questions, resamples, seed, EVALUATE))
    return figure_of(
        evaluation.trait[row],
        evaluation.coherence[row],
        means[np.arange(resamples), drawn],
        evaluation.alphas[row],
        True,
        seed,
    )


def _best(scores: Scores, counts: Array) -> NDArray[np.intp]:
    """[resample]: the row of the largest mean; ties go to the smaller factor, a factor without ratings comes last."""
    mean, _ = mean_and_error(scores.trait, counts)
    return np.where(np.isnan(mean), -np.inf, np.round(mean, 9)).argmax(axis=-1)
