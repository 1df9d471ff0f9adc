"""Judged completions as arrays: one row an alpha, one column a question, nan where the judge failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from psr.alpha_search import Scores
from psr.resampling import Array
from psr.types import Completion, Judgement, PromptPair

Values = Mapping[tuple[str, str], float | None]


def values_of(judgements: Iterable[Judgement]) -> dict[tuple[str, str], float | None]:
    """(completion, dimension) -> value from 0 to 100, None where the judge failed."""
    return {(j.completion, j.dimension): None if j.value is None else 100 * j.value / j.scale for j in judgements}


def by_question(
    completions: Iterable[Completion], values: Values, dimension: str, pairs: Sequence[PromptPair]
) -> Array:
    """[question]: the mean over a question's samples, in the order of `pairs`; nan when none is scored."""
    found: dict[str, list[float]] = {pair.id: [] for pair in pairs}
    for completion in completions:
        value = values[completion.id, dimension]
        if value is not None:
            found[completion.pair].append(value)
    return np.array([np.mean(scores) if scores else np.nan for scores in found.values()])


def scores_of(completions: Iterable[Completion], values: Values, pairs: Sequence[PromptPair]) -> Scores:
    """Scores [alpha, question] of one method's completions, alphas ascending."""
    by_alpha: dict[float, list[Completion]] = {}
    for completion in completions:
        by_alpha.setdefault(completion.alpha, []).append(completion)
    alphas = sorted(by_alpha)
    trait, coherence = (
        np.stack([by_question(by_alpha[alpha], values, dimension, pairs) for alpha in alphas])
        for dimension in ("trait", "coherence")
    )
    return Scores(tuple(alphas), trait, coherence)
