"""The strength at which a module does as much as the prompt: where side effects of the two are compared.

    α₌ = min { α : trait(α) ≥ trait(prompt) }       trait(α): straight between the means at the α's of a search

One α for all questions, chosen on the search questions by the effect alone. TA@C (alpha_search.py) asks the reverse: how much
effect at a given coherence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.evaluation.alpha_search import SLACK, Scores
from psr.evaluation.resampling import mean_and_error, once

DIGITS = 3  # of α: far below what a search can tell apart


class EqualEffect(NamedTuple):
    """alpha: the smallest at which the module does as much as the prompt; where none does (reached False), the one at which
    it does most."""

    alpha: float
    reached: bool


def equal_effect(search: Scores, prompt: ArrayLike) -> EqualEffect:
    """α₌ of a module.

    search: its scores on the search questions, at α = 0 too; prompt: the prompted completions' trait [question] there, nan
    where unscored. Raises PsrError when α = 0 was not scored, or nothing of one side was.

        scores = Scores((0.0, 1.0, 2.0), np.array([[0.0], [40.0], [80.0]]), np.full((3, 1), 90.0))
        equal_effect(scores, [60.0])        # EqualEffect(alpha=1.5, reached=True)
    """
    means, wanted = mean_and_error(search.trait, once(search.questions))[0][0], np.asarray(prompt, dtype=np.float64)
    scored = ~np.isnan(means)
    if 0.0 not in search.alphas or not scored.any() or wanted.size == 0 or np.isnan(wanted).all():
        raise PsrError(
            "a module's effect cannot be compared with the prompt's",
            expected="scores of both, the module's from α = 0 on",
            got=f"{int(scored.sum())} of the α's {search.alphas} scored, {int((~np.isnan(wanted)).sum())} prompted answers",
        )
    alphas, means, goal = np.asarray(search.alphas)[scored], means[scored], float(np.nanmean(wanted))
    enough = np.flatnonzero(means >= goal - SLACK)
    if not len(enough):
        return EqualEffect(float(alphas[means.argmax()]), False)
    k = int(enough[0])
    if k == 0:
        return EqualEffect(float(alphas[0]), True)
    share = min(1.0, (goal - means[k - 1]) / (means[k] - means[k - 1]))
    return EqualEffect(round(float(alphas[k - 1] + share * (alphas[k] - alphas[k - 1])), DIGITS), True)
