"""Judged completions as arrays: one row an alpha, one column a question, nan where the judge failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from psr.evaluation.alpha_search import Scores
from psr.evaluation.ratings import TOP, harmonic_mean
from psr.evaluation.resampling import Array
from psr.types import Completion, Judgement, PromptPair

Values = Mapping[tuple[str, str], float | None]
HARMONIC = "harmonic"


def values_of(judgements: Iterable[Judgement]) -> dict[tuple[str, str], float | None]:
    """(completion, dimension) -> value from 0 to 100, None where the judge failed."""
    return {(j.completion, j.dimension): None if j.value is None else 100 * j.value / j.scale for j in judgements}


def rated(
    values: Values, dimensions: Sequence[str], completions: Iterable[Completion]
) -> dict[tuple[str, str], float | None]:
    """Values of the completions as ratings from 0 to 2, with their harmonic mean as "harmonic"; None where one is unknown."""
    own = list(dict.fromkeys(completion.id for completion in completions))
    known = {(one, name): values[one, name] for one in own for name in dimensions}
    ratings = {key: None if value is None else value / 100 * TOP for key, value in known.items()}
    table = np.array([[ratings[one, name] for name in dimensions] for one in own], dtype=np.float64)
    means = harmonic_mean(table.reshape(-1, len(dimensions)))
    return ratings | {
        (one, HARMONIC): None if np.isnan(mean) else float(mean) for one, mean in zip(own, means, strict=True)
    }


def by_question(
    completions: Iterable[Completion], values: Values, dimension: str, pairs: Sequence[PromptPair]
) -> Array:
    """[question]: the mean over a question's samples, in the order of `pairs`; nan when none is scored."""
    scored: dict[str, list[float]] = {pair.id: [] for pair in pairs}
    for completion in completions:
        value = values[completion.id, dimension]
        if value is not None:
            scored[completion.pair].append(value)
    return np.array([np.mean(scores) if scores else np.nan for scores in scored.values()])


def scores_of(
    completions: Iterable[Completion],
    values: Values,
    pairs: Sequence[PromptPair],
    dimensions: tuple[str, str] = ("trait", "coherence"),
) -> Scores:
    """Scores [alpha, question] of one method's completions, alphas ascending. dimensions: what is asked for, and sense."""
    by_alpha: dict[float, list[Completion]] = {}
    for completion in completions:
        by_alpha.setdefault(completion.alpha, []).append(completion)
    alphas = sorted(by_alpha)
    trait, coherence = (
        np.stack([by_question(by_alpha[alpha], values, dimension, pairs) for alpha in alphas])
        for dimension in dimensions
    )
    return Scores(tuple(alphas), trait, coherence)
