"""The α at which a module does as much as the prompt, against a walk along the curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.equal_effect import equal_effect


def curve(alphas, means, questions: int = 2) -> Scores:
    trait = np.repeat(np.array(means, dtype=np.float64)[:, None], questions, axis=1)
    return Scores(tuple(map(float, alphas)), trait, np.full_like(trait, 90.0))


@pytest.mark.parametrize(("means", "prompt", "expected"), [
    ([0, 40, 80], 60, (1.5, True)), ([0, 40, 80], 40, (1.0, True)), ([0, 40, 80], 80, (2.0, True)),
    ([0, 40, 80], 81, (2.0, False)), ([0, 70, 50], 75, (1.0, False)), ([0, 70, 50], 60, (0.857, True)),
    ([30, 70, 50], 20, (0.0, True)), ([0, float("nan"), 80], 60, (1.5, True)),
])  # fmt: skip
def test_the_smallest_alpha_that_does_as_much_and_else_the_one_that_does_most(means, prompt, expected):
    assert equal_effect(curve((0, 1, 2), means), [prompt]) == pytest.approx(expected)


def test_effects_are_means_of_what_was_scored():
    trait = np.array([[0.0, 0.0], [40.0, np.nan], [80.0, 90.0]])
    scores = Scores((0.0, 1.0, 3.0), trait, np.full_like(trait, 90.0))
    assert equal_effect(scores, [np.nan, 62.5]) == pytest.approx((2.0, True))  # half of the way from 40 to 85


@given(st.lists(st.integers(-20, 120), min_size=2, max_size=7), st.integers(1, 119))
def test_a_walk_along_the_curve_finds_the_same(means, prompt):
    fine = np.linspace(0, len(means) - 1, 1000 * (len(means) - 1) + 1)
    walked = next((x for x in fine if np.interp(x, range(len(means)), means) >= prompt - 1e-9), None)
    found = equal_effect(curve(range(len(means)), means), [float(prompt)])
    if walked is None:
        assert found == (float(np.argmax(means)), False)
    else:
        assert found.reached
        assert found.alpha == pytest.approx(walked, abs=2e-3)


@pytest.mark.parametrize(("alphas", "means", "prompt"), [
    ((1, 2), (0, 1), [1.0]), ((0, 1), (np.nan, np.nan), [1.0]), ((0, 1), (0, 1), [np.nan]), ((0, 1), (0, 1), []),
])  # fmt: skip
def test_what_was_not_scored_is_refused(alphas, means, prompt):
    with pytest.raises(PsrError, match="cannot be compared with the prompt's"):
        equal_effect(curve(alphas, means), prompt)
