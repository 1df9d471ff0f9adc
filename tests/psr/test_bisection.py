"""The sequential bisection finds the one crossing there is, in as many calls as halvings say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.bisection import bisect

PROMPT = np.full(4, 90.0)


def scored(coherence):
    """An evaluation in which every question has the same coherence, and the alphas that were asked of it, call by call."""
    asked: list[tuple[float, ...]] = []

    def evaluate(alphas):
        asked.append(tuple(alphas))
        return at(alphas)

    def at(alphas):
        values = np.array([[coherence(alpha)] * 4 for alpha in alphas])
        return Scores(tuple(alphas), values, values)

    return evaluate, at((0.0,)), asked


@given(st.floats(0.01, 3.99), st.sampled_from([1.0, 0.5, 0.17, 0.05]))
def test_the_bracket_holds_the_crossing_and_one_alpha_is_asked_a_call(crossing, width):
    evaluate, plain, asked = scored(lambda alpha: 95.0 if alpha <= crossing else 60.0)
    low, high = bisect(evaluate, plain, "C80", PROMPT, alpha_max=4.0, width=width)
    assert low <= crossing <= high
    assert high - low <= width
    assert all(len(alphas) == 1 for alphas in asked)
    assert len(asked) == 1 + math.ceil(math.log2(4 / width))


@pytest.mark.parametrize(("point", "coherence", "found"), [
    ("C80", 85.0, False), ("Cp", 85.0, True), ("C80", 70.0, True), ("Cp", 95.0, False),
])  # fmt: skip
def test_each_point_has_its_own_threshold(point, coherence, found):
    evaluate, plain, asked = scored(lambda alpha: 95.0 if alpha < 1 else coherence)
    bracket = bisect(evaluate, plain, point, PROMPT, alpha_max=4.0, width=0.5)
    assert bracket == ((0.5, 1.0) if found else None)
    assert asked[0] == (4.0,)
    assert len(asked) == (4 if found else 1)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_width_that_never_ends_is_refused(width):
    evaluate, plain, _ = scored(lambda alpha: 95.0)
    with pytest.raises(PsrError, match="needs a width"):
        bisect(evaluate, plain, "C80", PROMPT, alpha_max=4.0, width=width)
