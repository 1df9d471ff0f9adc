"""Percentile bootstrap over questions, whose intervals repeat the choice of alpha (method section 5).

A figure at a matched coherence comes from two sets of questions: the search questions choose alpha, the evaluation
questions give the trait alignment. Each resample draws both again, chooses alpha among the candidates, and takes the
trait there. A figure keeps its resampled values, so that two on the same evaluation questions are compared draw by
draw, and several averaged: over seeds, which are resampled too, and over attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.evaluation.alpha_search import Point, Scores, choose_at
from psr.evaluation.resampling import Array, mean_and_error, once, resample

RESAMPLES, LEVEL = 1000, 0.95
SEARCH, EVALUATE, SEEDS = 0, 1, 2  # streams of random numbers: figures with one seed share their evaluation draws


class Interval(NamedTuple):
    """An estimate with the ends of its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Figure:
    """One number of a table. value: on the data as it is; samples: [resample]; low, high: percentile interval.

    n of n + n_unscored evaluation questions had a trait score. alpha: where it was measured (None: no module), coherence:
    mean coherence of the same completions, reached: False when only the unsteered model was coherent enough.
    """

    value: float
    low: float
    high: float
    n: int
    n_unscored: int
    coherence: float
    alpha: float | None
    reached: bool
    samples: Array
    seed: int

    @property
    def questions(self) -> int:
        return self.n + self.n_unscored


def interval_of(value: float, samples: Array, level: float = LEVEL) -> Interval:
    """Percentile interval of resampled values; resamples without a value (nan) are left out."""
    if np.isnan(value) or np.isnan(samples).all():
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def matched(
    search: Scores,
    prompt: ArrayLike,
    evaluation: Scores,
    point: Point,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Figure:
    """TA@C80, TA@Cp or TA@Cp−2 with an interval that repeats the choice of alpha.

    search: every alpha of the search; prompt: the prompted coherence [search question]. evaluation: the candidate
    alphas on other questions, alpha 0 included (the unsteered completions), each scored in the search too.
    Raises PsrError when alpha 0 or a search score is missing.
    """
    options = search.at(evaluation.alphas)
    chosen = choose_at(point, options, prompt)
    index, reached = int(chosen.row[0]), bool(chosen.reached[0])
    drawn = choose_at(point, options, prompt, resample(search.questions, resamples, seed, SEARCH)).row
    trait, _ = mean_and_error(evaluation.trait, resample(evaluation.questions, resamples, seed, EVALUATE))
    samples = trait[np.arange(resamples), drawn]
    trait_at, coherence_at = evaluation.trait[index], evaluation.coherence[index]
    return figure_of(trait_at, coherence_at, samples, evaluation.alphas[index], reached, seed, level)


def plain_mean(
    trait: ArrayLike, coherence: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Figure:
    """The mean of one set of completions, prompted or unsteered, with no alpha chosen. trait, coherence: [question]."""
    rows = (np.asarray(values, dtype=np.float64)[np.newaxis] for values in (trait, coherence))
    scores = Scores((0.0,), *rows)
    samples, _ = mean_and_error(scores.trait, resample(scores.questions, resamples, seed, EVALUATE))
    return figure_of(scores.trait[0], scores.coherence[0], samples[:, 0], None, True, seed, level)


def figure_of(
    trait: Array, coherence: Array, samples: Array, alpha: float | None, reached: bool, seed: int, level: float = LEVEL
) -> Figure:
    """The figure of trait and coherence [question], its interval from `samples` [resample]."""
    value, low, high = interval_of(_mean(trait), samples, level)
    unscored = int(np.isnan(trait).sum())
    return Figure(value, low, high, len(trait) - unscored, unscored, _mean(coherence), alpha, reached, samples, seed)


def _mean(values: Array) -> float:
    return float(mean_and_error(values[np.newaxis], once(len(values)))[0][0, 0])


def paired(first: Figure, second: Figure, *, level: float = LEVEL) -> Interval:
    """first − second on the same evaluation questions, which are resampled for both together.

    Raises PsrError where their seeds, numbers of resamples or of questions differ.
    """
    alike = [(figure.seed, len(figure.samples), figure.questions) for figure in (first, second)]
    if alike[0] != alike[1]:
        raise PsrError(
            "two figures were not resampled together", expected="equal seed, resamples and questions", got=alike
        )
    return interval_of(first.value - second.value, first.samples - second.samples, level)


def over_seeds(figures: Sequence[Figure], *, level: float = LEVEL) -> Figure:
    """One method's figures of several seeds as one: their mean, with an interval over seeds × questions.

    Each resample draws the seeds, and the questions once for all seeds (they are the same questions). Two methods'
    figures have the same draws, so `paired` compares them seed by seed. n counts question × seed; alpha is the
    mean; reached: with every seed. A bootstrap over few seeds is too narrow, by √((S − 1)/S) in the seeds' own spread.
    Raises PsrError for none, or for figures that were not resampled together.
    """
    alike = sorted({(figure.seed, len(figure.samples), figure.questions) for figure in figures})
    if len(alike) != 1:
        raise PsrError(
            "figures of several seeds were not resampled together",
            got=alike or "no figure",
            expected="at least one, with equal seed, resamples and questions",
        )
    if len(figures) == 1:
        return figures[0]
    (seed, resamples, _), n = alike[0], len(figures)
    counts = resample(n, resamples, seed, SEEDS).T
    values = np.where(counts > 0, np.stack([figure.samples for figure in figures]), 0.0)
    samples = (counts * values).sum(axis=0) / n
    value, low, high = interval_of(float(np.mean([figure.value for figure in figures])), samples, level)
    alphas = [figure.alpha for figure in figures if figure.alpha is not None]
    return Figure(
        value,
        low,
        high,
        sum(f.n for f in figures),
        sum(f.n_unscored for f in figures),
        float(np.mean([f.coherence for f in figures])),
        float(np.mean(alphas)) if alphas else None,
        all(f.reached for f in figures),
        samples,
        seed,
    )


def average(figures: Sequence[Figure], *, level: float = LEVEL) -> Interval:
    """The mean of several figures (one per attribute), draw by draw. Raises PsrError for none."""
    lengths = {len(figure.samples) for figure in figures}
    if len(lengths) != 1:
        raise PsrError(
            "figures cannot be averaged",
            expected="at least one, all with equally many resamples",
            got=sorted(lengths) or "none",
        )
    samples = np.mean([figure.samples for figure in figures], axis=0)
    return interval_of(float(np.mean([figure.value for figure in figures])), samples, level)
