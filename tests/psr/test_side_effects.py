"""The strength that equals the prompt's effect, the control, and ratios with their intervals, on numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import family
from written import strong_module

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import over_seeds, paired, plain_mean
from psr.evaluation.side_effects import (
    CLOSE,
    EqualStrength,
    equal_strength,
    in_english,
    ratio,
    search_equal,
    signs_randomised,
)

NAN = float("nan")


def scores(alphas, effect, coherence=None):
    """Two questions, 10 points to either side of each mean."""
    spread = np.array([-10.0, 10.0])
    coherence = [90.0] * len(alphas) if coherence is None else coherence
    return Scores(tuple(alphas), *(np.array(values)[:, None] + spread for values in (effect, coherence)))


PROMPT = (np.array([70.0, 90.0]), np.array([85.0, 95.0]))  # effect 80, coherence 90


@pytest.mark.parametrize(("effect", "expected"), [
    ((0, 40, 100), EqualStrength(1 + 2 / 3, 80.0, 80.0, True)),  # from 40 to 100: two thirds of the way from 1 to 2
    ((0, 80, 100), EqualStrength(1.0, 80.0, 80.0, True)),
    ((0, 100, 60), EqualStrength(0.8, 80.0, 80.0, True)),  # the first crossing, not the way back
    ((0, 79, 60), EqualStrength(1.0, 79.0, 80.0, True)),  # within CLOSE
    ((0, 50, 60), EqualStrength(2.0, 60.0, 80.0, False)),
    ((0, NAN, 100), EqualStrength(1.6, 80.0, 80.0, True)),  # not scored: left out
])  # fmt: skip
def test_the_strength_is_where_the_line_between_tried_ones_meets_the_prompts_effect(effect, expected):
    found = equal_strength(scores((0.0, 1.0, 2.0), effect), *PROMPT)
    assert found == EqualStrength(pytest.approx(expected.alpha, abs=5e-4), *map(pytest.approx, (expected.effect, 80.0)),
                                  expected.reached)  # fmt: skip


def test_what_does_not_reach_the_prompt_takes_its_largest_effect_where_it_is_as_coherent_as_the_prompt_less_two_points():
    curve = scores((0.0, 1.0, 2.0, 3.0), (0, 30, 50, 60), (95, 92, 88, 87))
    assert equal_strength(curve, *PROMPT) == EqualStrength(2.0, pytest.approx(50), pytest.approx(80), False)
    none = equal_strength(scores((0.0, 1.0), (0, 30), (95, 40)), *PROMPT)
    assert none == EqualStrength(0.0, pytest.approx(0, abs=1e-9), pytest.approx(80), False)


def test_without_an_effect_of_the_prompt_nothing_is_chosen():
    with pytest.raises(PsrError, match=r"no effect of the prompt to equal, expected .*got 80.0 against 85.0"):
        equal_strength(scores((0.0, 1.0), (85, 95)), *PROMPT)
    with pytest.raises(PsrError, match="no score without steering"):
        equal_strength(scores((0.5, 1.0), (0, 95)), *PROMPT)
    with pytest.raises(PsrError, match=r"other questions, expected \[2\], got \[3\]"):
        equal_strength(scores((0.0, 1.0), (0, 95)), np.zeros(3), PROMPT[1])


def test_the_strength_is_tried_until_its_effect_is_the_prompts():
    tried = []

    def evaluate(alphas):  # effect = 100 (α / 2)², which the first line underestimates
        tried.extend(alphas)
        return scores(alphas, [25.0 * alpha**2 for alpha in alphas])

    every, found = search_equal(evaluate, scores((0.0, 2.0), (0, 100)), *PROMPT)
    assert tried[0] == 1.6  # 64 there
    assert 1 < len(tried) <= 3
    assert found.alpha == tried[-1]
    assert found.effect == pytest.approx(25 * found.alpha**2)
    assert abs(found.effect - 80) <= CLOSE
    assert every.alphas == tuple(sorted({0.0, 2.0, *tried}))


def test_a_strength_that_never_comes_near_is_the_nearest_that_was_tried_and_a_flat_curve_is_not_tried():
    jumps = iter([70.0, 40.0, 60.0])
    _, found = search_equal(lambda alphas: scores(alphas, [next(jumps)]), scores((0.0, 2.0), (0, 100)), *PROMPT)
    assert found == EqualStrength(1.6, 70.0, 80.0, True)
    flat = scores((0.0, 2.0), (0, 10))
    assert search_equal(lambda alphas: pytest.fail("asked"), flat, *PROMPT)[1].reached is False
    with pytest.raises(PsrError, match="could be judged"):
        search_equal(lambda alphas: scores(alphas, [NAN]), scores((0.0, 2.0), (0, 100)), *PROMPT)


@pytest.mark.parametrize("form", ["Const", "PSR", "PSR2", "LoReFT2", "Proj"])
def test_a_control_keeps_lengths_angles_and_gates_and_points_elsewhere(form):
    module = strong_module("model", form=form)
    control, z = signs_randomised(module, 3), module.tensors["z"]
    other = control.tensors["z"]
    assert other.abs().equal(z.abs())
    flipped = (other != z).float().mean()
    assert 0.3 < flipped < 0.7
    if z.dim() == 3:
        assert torch.allclose(other @ other.mT, z @ z.mT, atol=1e-4)
    assert all(control.tensors[name].equal(module.tensors[name]) for name in module.tensors if name != "z")
    assert control.id != module.id
    assert signs_randomised(module, 3).tensors["z"].equal(other)
    assert not signs_randomised(module, 4).tensors["z"].equal(other)


def test_a_control_steers_the_model_that_its_module_was_fitted_on():
    from psr.answers.conversations import Conversation, converse
    from psr.answers.sampling import Sampling

    lm = family("llama")
    control = signs_randomised(strong_module(lm.fingerprint))
    (answers,) = converse(lm, [Conversation(("why", "how"), 1, module=control, alpha=1.0)], Sampling(2, 0))
    assert len(answers) == 2


def test_a_ratio_is_of_sums_and_its_interval_draws_questions_together_with_other_figures():
    nats, tokens = np.array([10.0, 1.0, 4.0, NAN]), np.array([2.0, 1.0, 7.0, 5.0])
    found = ratio(nats, tokens, alpha=0.5, resamples=4000, seed=1)
    assert (found.value, found.n, found.n_unscored, found.alpha) == (1.5, 3, 1, 0.5)
    generator = np.random.default_rng(5)
    kept = [rows[rows < 3] for rows in generator.integers(0, 4, (20000, 4))]
    drawn = [nats[rows].sum() / tokens[rows].sum() for rows in kept if len(rows)]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), rel=0.07)
    values = np.array([3.0, 5.0, NAN, 9.0])
    own, reference = ratio(values, seed=2), plain_mean(values, values, seed=2)
    assert (own.value, own.low, own.high) == pytest.approx((reference.value, reference.low, reference.high))
    both = over_seeds([own, ratio(values + 1, seed=2)])
    assert both.value == pytest.approx(17 / 3 + 0.5)
    assert paired(both, both)[:3] == (0, 0, 0)


def test_nothing_judged_is_no_value():
    found = ratio([NAN, NAN])
    assert np.isnan([found.value, found.low, found.high]).all()
    assert (found.n, found.n_unscored) == (0, 2)


def test_english_is_told_from_other_languages():
    said = in_english(
        ["The weather is nice and the children play outside.", "Le temps est beau et les enfants jouent.", " "]
    )
    assert said == [True, False, False]
