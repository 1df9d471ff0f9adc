"""The search for alpha, and what TA@C makes of it, on synthetic curves whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.alpha_search import COARSE, Scores, candidates, choose_at, crossings, search
from psr.evaluation.bootstrap import matched

Curve = Callable[[float], float]
QUESTIONS = 40
NOISE = np.random.default_rng(7).normal(0, 4, (2, QUESTIONS))
NOISE -= NOISE.mean(axis=1, keepdims=True)
PROMPT = 96 + NOISE[1] / 4


class Evaluate:
    """Scores from two curves; remembers which alphas were asked in each call."""

    def __init__(self, trait: Curve, coherence: Curve) -> None:
        self.trait, self.coherence, self.calls = trait, coherence, []

    def __call__(self, alphas):
        self.calls.append(alphas)
        return Scores(
            tuple(alphas),
            np.array([self.trait(a) + NOISE[0] for a in alphas]),
            np.array([self.coherence(a) + NOISE[1] for a in alphas]),
        )


def falling(a: float) -> float:
    return 98 - 12 * a


def rising(a: float) -> float:
    return 20 * a


def best(point: str, scores: Scores, prompt=PROMPT) -> float:
    return scores.alphas[int(choose_at(point, scores, prompt).row[0])]


def test_search_closes_in_on_a_steady_crossing():
    evaluate = Evaluate(rising, falling)
    scores = search(evaluate, PROMPT, refine=(2, 1))
    error = float(NOISE[1].std(ddof=1) / np.sqrt(QUESTIONS))
    assert 0 <= (18 + error) / 12 - best("C80", scores) < 0.05
    assert 0 <= (2 + error / 4) / 12 - best("Cp", scores) < 0.05
    assert scores.alphas == tuple(sorted(scores.alphas))
    assert set(COARSE) <= set(scores.alphas)
    assert 4.0 not in scores.alphas  # both points are crossed below


def test_each_round_is_one_call_and_no_alpha_is_asked_twice():
    evaluate = Evaluate(rising, falling)
    scores = search(evaluate, PROMPT, refine=(3, 2))
    assert len(evaluate.calls) == 3
    assert evaluate.calls[0] == COARSE
    asked = [alpha for call in evaluate.calls for alpha in call]
    assert len(asked) == len(set(asked)) == len(scores.alphas)
    assert len(COARSE) + 2 * 2 <= len(asked) <= len(COARSE) + 2 * (3 + 2)


def test_a_crossing_shared_by_both_points_is_asked_once():
    evaluate = Evaluate(rising, lambda a: 97 if a < 1.2 else 40)
    search(evaluate, PROMPT, refine=(3,))
    assert len(evaluate.calls[1]) < 6


def test_alphas_are_put_around_where_the_line_crosses_a_little_on_the_coherent_side():
    coherence = np.array([[100.0] * 4, [90.0] * 4, [65.0] * 4])
    scores = Scores((0.0, 1.0, 2.0), np.zeros((3, 4)), coherence)
    asked = []

    def evaluate(alphas):
        asked.append(alphas)
        return (
            scores
            if 0 in alphas
            else Scores(tuple(alphas), np.zeros((len(alphas), 4)), np.full((len(alphas), 4), 81.0))
        )

    search(
        evaluate, np.full(4, 50.0), coarse=scores.alphas, alpha_max=2, refine=(2, 1)
    )  # 80 lies at 0.4 of 90 to 65, less 0.05
    assert asked[1] == (1.15, 1.55)
    assert asked[2] == (round(1.55 + 0.45 * (1 / 16 + 0.0375), 3),)  # nearer than 0.1 to an end: 0.1 from it


@given(st.lists(st.one_of(st.floats(0, 100), st.just(float("nan"))), min_size=5, max_size=5), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_every_new_alpha_lies_inside_a_crossing(means, count):
    coherence = np.array(means)[:, np.newaxis].repeat(3, axis=1)
    scores, asked = Scores(COARSE, np.zeros((5, 3)), coherence), []

    def evaluate(alphas):
        asked.append(alphas)
        return (
            scores if alphas == COARSE else Scores(alphas, np.zeros((len(alphas), 3)), np.full((len(alphas), 3), 90.0))
        )

    search(evaluate, np.full(3, 95.0), alpha_max=COARSE[-1], refine=(count,))
    looked = {
        crossings(point, scores, np.full(3, 95.0))[0]
        for point in ("C80", "Cp")
        if crossings(point, scores, np.full(3, 95.0))
    }
    for alpha in asked[1] if len(asked) > 1 else ():
        assert any(low < alpha < high for low, high in looked)
    for low, high in looked:
        assert sum(low < alpha < high for alpha in asked[1]) in range(1, 2 * count + 1)


def test_coherence_that_never_falls_is_asked_for_at_the_largest_alpha():
    evaluate = Evaluate(rising, lambda a: 97)
    scores = search(evaluate, PROMPT)
    assert evaluate.calls == [COARSE, (4.0,)]
    assert best("C80", scores) == best("Cp", scores) == 4.0


def test_a_point_crossed_only_beyond_the_grid_is_looked_into_after_the_largest_alpha():
    evaluate = Evaluate(rising, lambda a: 97 - 5 * max(0, a - 2.5) ** 2 if a < 3.9 else 30)
    search(evaluate, PROMPT, refine=(2,))
    assert [4.0 in call for call in evaluate.calls] == [False, True, False]
    assert all(2.5 < alpha < 4 for alpha in evaluate.calls[2])


def test_a_trait_that_saturates_is_met_at_the_smallest_alpha():
    scores = search(Evaluate(lambda a: min(100.0, 100 * a), lambda a: 97), PROMPT)
    assert best("C80", scores) == 1.0


def test_collapse_right_after_zero_is_searched_between_zero_and_the_first_alpha():
    scores = search(Evaluate(rising, lambda a: 98 if a < 0.1 else 5), PROMPT)
    assert 0 < best("C80", scores) < 0.1


def test_collapse_before_any_alpha_is_not_reached():
    scores = search(Evaluate(rising, lambda a: 98 if a == 0 else 5), PROMPT)
    choice = choose_at("C80", scores, PROMPT)
    assert not choice.reached[0]
    assert scores.alphas[int(choice.row[0])] == 0.0


def test_of_many_crossings_the_one_with_the_largest_trait_is_looked_into():
    evaluate = Evaluate(rising, lambda a: 97 if round(a * 2) % 2 == 0 else 50)
    grid = (0.0, 0.5, 1.0, 1.5, 2.0)
    assert len(crossings("C80", evaluate(grid), PROMPT)) == 4
    search(evaluate, PROMPT, coarse=grid, refine=(3,))
    assert evaluate.calls[2] == (4.0,)
    assert all(1.5 < alpha < 2 for alpha in evaluate.calls[3])


def test_coherence_that_comes_back_is_followed_up_to_the_largest_alpha():
    evaluate = Evaluate(rising, lambda a: 30 if 0.9 < a < 2.3 else 97)
    scores = search(evaluate, PROMPT)
    assert best("C80", scores) == best("Cp", scores) == 4.0
    assert evaluate.calls[1] == (4.0,)
    assert all(1.5 < alpha < 2.5 for alpha in evaluate.calls[2])  # its end has the largest trait


def test_where_nothing_is_coherent_no_larger_alpha_is_asked():
    evaluate = Evaluate(rising, lambda a: 40)
    search(evaluate, PROMPT)
    assert evaluate.calls == [COARSE]


def test_the_middle_is_looked_at_where_an_end_is_unscored():
    coherence = np.array([[100.0] * 3, [95.0] * 3, [np.nan] * 3])
    asked = []

    def evaluate(alphas):
        asked.append(alphas)
        return (
            Scores((0.0, 1.0, 2.0), np.zeros((3, 3)), coherence)
            if 0 in alphas
            else Scores(alphas, np.zeros((len(alphas), 3)), np.full((len(alphas), 3), 90.0))
        )

    search(evaluate, np.full(3, 90.0), coarse=(0, 1, 2), alpha_max=2, refine=(1,))
    assert asked[1] == (1.5,)


def test_a_trait_that_falls_again_is_met_at_its_height():
    scores = search(Evaluate(lambda a: 90 - 40 * abs(a - 1), lambda a: 97), PROMPT)
    assert best("Cp", scores) == 1.0


def test_unscored_questions_are_left_out_of_the_choice():
    scores = Evaluate(rising, falling)(COARSE)
    holes = scores.coherence.copy()
    holes[:, :5] = np.nan
    assert best("C80", Scores(scores.alphas, scores.trait, holes)) == best("C80", scores)


def test_an_alpha_without_any_score_is_never_chosen():
    scores = Evaluate(rising, lambda a: 97)(COARSE)
    trait = scores.trait.copy()
    trait[-1] = np.nan
    assert best("C80", Scores(scores.alphas, trait, scores.coherence)) == 1.5


def test_cp_is_measured_against_the_prompt_with_its_own_standard_error():
    coherence = np.array([[95.0] * 4, [91.0] * 4, [89.0] * 4])
    scores = Scores((0.0, 1.0, 2.0), np.array([[0.0] * 4, [50.0] * 4, [80.0] * 4]), coherence)
    prompt = np.array([90.0, 94.0, 90.0, 94.0])  # mean 92, standard error 2/√3 = 1.15: the bar is 90.85
    assert best("Cp", scores, prompt) == 1.0
    assert best("C80", scores, prompt) == 2.0


def test_a_module_that_misses_the_prompt_by_a_fraction_of_a_point_is_reached_with_a_margin_of_two():
    """The prompt: mean 97, standard error 1/3. At alpha 1 the module lies 0.8 below 97 − 1/3, at alpha 2 just below 95."""
    prompt = np.array([96.0, 98.0] * 5)
    assert prompt.std(ddof=1) / np.sqrt(10) == pytest.approx(1 / 3)
    values = np.array([[97.0, 0.0], [97 - 1 / 3 - 0.8, 99.0], [94.99, 100.0]])[:, :, np.newaxis].repeat(10, axis=2)
    scores = Scores((0.0, 1.0, 2.0), values[:, 1], values[:, 0])
    chosen = {point: choose_at(point, scores, prompt) for point in ("Cp", "Cp2")}
    assert [(scores.alphas[int(one.row[0])], bool(one.reached[0])) for one in chosen.values()] == [
        (0, False),
        (1, True),
    ]
    figures = {point: matched(scores, prompt, scores, point, resamples=50).value for point in chosen}
    assert figures == {"Cp": 0.0, "Cp2": 99.0}
    assert {(c.point, c.alpha) for c in candidates(scores, prompt) if c.chosen} >= {("Cp", 0.0), ("Cp2", 1.0)}


def test_the_margin_stays_two_points_whatever_the_prompts_standard_error():
    prompt = np.array([90.0, 100.0] * 5)  # standard error 5/3
    for below, alpha in ((1.99, 1.0), (2.01, 0.0)):
        coherence = np.array([[97.0] * 10, [95.0 - below] * 10])
        assert best("Cp2", Scores((0.0, 1.0), coherence[::-1], coherence), prompt) == alpha, below


def test_the_search_asks_for_no_alpha_more_than_the_two_points_of_the_paper_need():
    """Crossings: the prompt's coherence at 0.17, 2 points below it at 0.33, 80 at 1.5."""
    evaluate = Evaluate(rising, falling)
    search(evaluate, PROMPT, refine=(1,))
    assert evaluate.calls[0] == COARSE
    assert len(evaluate.calls[1]) == 2


def test_candidates_are_what_the_resamples_choose():
    scores = search(Evaluate(rising, falling), PROMPT)
    found = candidates(scores, PROMPT, resamples=500, seed=3)
    for point in ("C80", "Cp", "Cp2"):
        mine = [c for c in found if c.point == point]
        assert [c.alpha for c in mine if c.chosen] == [best(point, scores)]
        assert all(c.share >= 0.01 or c.chosen for c in mine)
        assert 0.9 < sum(c.share for c in mine) <= 1 + 1e-9
        assert len(mine) < len(scores.alphas)


def test_candidates_repeat_for_a_seed():
    scores = search(Evaluate(rising, falling), PROMPT)
    assert candidates(scores, PROMPT, seed=1) == candidates(scores, PROMPT, seed=1)
    assert candidates(scores, PROMPT, seed=1) != candidates(scores, PROMPT, seed=2)


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(PsrError, match="do not fit"):
        Scores((0.0, 1.0), np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(PsrError, match="do not fit"):
        Scores((0.0,), np.zeros(3), np.zeros(3))
    with pytest.raises(PsrError, match="ascending"):
        Scores((1.0, 0.0), np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(PsrError, match=r"not scored.*0\.7"):
        Evaluate(rising, falling)(COARSE).at([0.0, 0.7])


def test_search_refuses_what_it_cannot_use():
    evaluate = Evaluate(rising, falling)
    with pytest.raises(PsrError, match="not a finite number"):
        search(evaluate, PROMPT, coarse=(0.0, float("nan")))
    for coarse in ((0, 1, 5), (-1, 0, 1)):
        with pytest.raises(PsrError, match=r"outside the search.*0 to alpha_max = 4"):
            search(evaluate, PROMPT, coarse=coarse)
    with pytest.raises(PsrError, match=r"refinement without alphas.*got \(2, 0\)"):
        search(evaluate, PROMPT, refine=(2, 0))
    with pytest.raises(PsrError, match="other questions"):
        search(evaluate, PROMPT[:-1])
    with pytest.raises(PsrError, match="never scored"):
        search(evaluate, np.full(QUESTIONS, np.nan))
    with pytest.raises(PsrError, match="other alphas"):
        search(lambda alphas: Evaluate(rising, falling)(alphas[:-1]), PROMPT)
    with pytest.raises(PsrError, match="C80, Cp, Cp2"):
        choose_at("C90", evaluate(COARSE), PROMPT)
