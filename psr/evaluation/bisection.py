"""A sequential bisection for one point of comparison, which the batched search (alpha_search.py) replaces: a yardstick.

It assumes a single crossing, and evaluates one alpha a call.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.evaluation.alpha_search import SLACK, Evaluate, Point, Scores, crossings


def bisect(
    evaluate: Evaluate, unsteered: Scores, point: Point, prompt: ArrayLike, *, alpha_max: float, width: float
) -> tuple[float, float] | None:
    """Halve [0, alpha_max] around where coherence crosses `point` until the bracket is at most `width` wide.

    evaluate: alphas -> their scores; unsteered: those of alpha 0; prompt: as in `psr.evaluation.alpha_search.search`.
    Returns the bracket (low, high); None when alpha_max is on the same side as alpha 0.
    Raises PsrError for a width that is not positive.
    """
    if not width > 0:
        raise PsrError("a bisection needs a width to end at", expected="a positive width", got=width)
    low, high = unsteered, evaluate((alpha_max,))
    if not crossings(point, low.merged(high), prompt):
        return None
    while high.alphas[0] - low.alphas[0] > width + SLACK:
        middle = evaluate(((low.alphas[0] + high.alphas[0]) / 2,))
        if crossings(point, low.merged(middle), prompt):
            high = middle
        else:
            low = middle
    return low.alphas[0], high.alphas[0]
