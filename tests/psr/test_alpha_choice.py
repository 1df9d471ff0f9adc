"""The rule of TA@C alone, against the same written as a plain loop; the search for alpha has its own tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores, candidates, choose


def by_loop(alphas, trait, coherence, C, tolerance) -> tuple[int, bool]:
    able = [i for i in range(len(alphas)) if coherence[i] >= C - tolerance and not np.isnan(trait[i])]
    if not any(alphas[i] > 0 for i in able):
        return list(alphas).index(0.0), False
    top = max(trait[i] for i in able)
    return min((i for i in able if trait[i] == top), key=lambda i: alphas[i]), True


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_choose_equals_the_rule_written_as_a_loop(data):
    alphas = data.draw(st.permutations([0.0, 0.5, 1.0, 2.0, 4.0]))
    scores = st.one_of(st.integers(0, 10).map(float), st.just(float("nan")))
    trait, coherence = (data.draw(st.lists(scores, min_size=5, max_size=5)) for _ in range(2))
    C, tolerance = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 3))
    got = choose(alphas, trait, coherence, C, tolerance)
    assert (int(got.row), bool(got.reached)) == by_loop(alphas, trait, coherence, C, tolerance)


def test_choose_takes_the_smaller_alpha_of_a_tie():
    assert choose([0, 1, 2, 3], [0, 90, 90, 90], [100] * 4, 80, 0).row == 1
    almost = [0, 0.3, 0.1 + 0.2, 0.2]
    assert almost[2] > almost[1]
    assert choose([0, 1, 2, 3], almost, [100] * 4, 80, 0).row == 1


def test_a_coherence_within_the_tolerance_qualifies():
    assert choose([0, 1], [0, 50], [95, 77], 80, 3.0).row == 1
    assert choose([0, 1], [0, 50], [95, 76.9], 80, 3.0).row == 0


def test_an_equal_coherence_qualifies_whatever_the_order_of_its_sum():
    assert choose([0, 1], [0, 50], [95, 0.3], 0.1 + 0.2, 0).row == 1


def test_never_reached_gives_the_unsteered_model():
    choice = choose([0, 1, 2], [7, 90, 95], [98, 60, 20], 80, 1)
    assert (int(choice.row), bool(choice.reached)) == (0, False)
    incoherent = choose([0, 1], [7, 90], [50, 40], 80, 1)
    assert (int(incoherent.row), bool(incoherent.reached)) == (0, False)


def test_a_harmful_module_is_reached_at_alpha_zero():
    choice = choose([0, 1], [30, 10], [98, 97], 80, 0)
    assert (int(choice.row), bool(choice.reached)) == (0, True)


def test_choose_needs_the_unsteered_model():
    for alphas in ([0.5, 1], [-1, 0], []):
        with pytest.raises(PsrError, match="alpha 0 and none below"):
            choose(alphas, [1, 2], [90, 90], 80, 0)


def test_many_resamples_are_chosen_at_once():
    trait, coherence = np.array([[0, 5, 9], [0, 5, 9]]), np.array([[99, 90, 70], [99, 60, 70]])
    choice = choose([0, 1, 2], trait, coherence, [[80], [80]], 0)
    assert choice.row.tolist() == [1, 0]
    assert choice.reached.tolist() == [True, False]


def test_candidate_shares_equal_a_loop_over_resamples():
    generator = np.random.default_rng(5)
    scores = Scores((0.0, 1.0, 2.0), generator.uniform(0, 100, (3, 9)), generator.uniform(60, 100, (3, 9)))
    prompt = generator.uniform(60, 100, 9)
    found = {(c.point, c.alpha): c.share for c in candidates(scores, prompt, resamples=200, seed=1, min_share=0.0)}
    counts = np.random.default_rng([1, 0]).multinomial(9, np.full(9, 1 / 9), size=200)
    picked = []
    for row in counts:
        at = np.repeat(np.arange(9), row)
        bar = prompt[at].mean() - prompt[at].std(ddof=1) / 3
        picked.append(by_loop(scores.alphas, scores.trait[:, at].mean(1), scores.coherence[:, at].mean(1), bar, 0)[0])
    for i, alpha in enumerate(scores.alphas):
        assert found["Cp", alpha] == pytest.approx(picked.count(i) / 200)
