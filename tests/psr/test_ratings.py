"""AxBench's figure against loops and against what its definition says of single answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.ratings import at_best_strength, harmonic_mean, strengths

FACTORS = (0.4, 1.0, 2.0)


def scores(seed: int, questions: int, means=(0.6, 1.2, 1.1)) -> Scores:
    values = np.array(means)[:, None] + np.random.default_rng(seed).normal(0, 0.6, (len(means), questions))
    return Scores(FACTORS, values, values)


@pytest.mark.parametrize(
    ("ratings", "mean"),
    [
        ((2, 2, 2), 2.0),
        ((1, 1, 1), 1.0),
        ((2, 0, 2), 0.0),
        ((0, 0, 0), 0.0),
        ((2, 1, 2), 1.5),
        ((1, 1, 2), 1.2),
    ],
)
def test_the_harmonic_mean_is_zero_where_any_rating_is(ratings: tuple[float, ...], mean: float) -> None:
    assert harmonic_mean(ratings) == pytest.approx(mean)


def test_an_answer_that_was_not_rated_has_no_mean_even_beside_a_zero() -> None:
    assert np.isnan(harmonic_mean([[np.nan, 2.0, 2.0], [0.0, np.nan, 2.0]])).all()


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=3, max_size=3))
def test_it_lies_between_the_smallest_rating_and_their_mean(ratings: list[float]) -> None:
    assert min(ratings) - 1e-9 <= harmonic_mean(ratings) <= np.mean(ratings) + 1e-9


def test_the_interval_repeats_the_choice_of_the_factor() -> None:
    looked, taken = scores(1, 12), scores(2, 9)
    figure = at_best_strength(looked, taken, resamples=80, seed=5)
    drawn = [
        np.random.default_rng([5, stream]).multinomial(n, np.full(n, 1 / n), size=80) for stream, n in ((0, 12), (1, 9))
    ]
    by_hand, rows = [], []
    for a, b in zip(*drawn, strict=True):
        rows.append(max(range(3), key=lambda i: looked.trait[i, np.repeat(np.arange(12), a)].mean()))
        by_hand.append(taken.trait[rows[-1], np.repeat(np.arange(9), b)].mean())
    assert figure.samples == pytest.approx(np.array(by_hand))
    assert len(set(rows)) > 1  # the choice really changes
    best = int(looked.trait.mean(axis=1).argmax())
    assert (figure.alpha, figure.value) == (FACTORS[best], pytest.approx(taken.trait[best].mean()))
    candidates = strengths(looked, resamples=80, seed=5, min_share=0.0)
    assert {c.alpha: c.share for c in candidates} == {
        factor: pytest.approx(rows.count(i) / 80) for i, factor in enumerate(FACTORS)
    }
    assert [c.alpha for c in candidates if c.chosen] == [figure.alpha]


def test_equal_means_go_to_the_smaller_factor_and_what_nobody_rated_is_never_chosen() -> None:
    same = np.ones((3, 4))
    assert at_best_strength(Scores(FACTORS, same, same), Scores(FACTORS, same, same), resamples=5).alpha == 0.4
    unrated = np.array([[np.nan] * 4, [0.0] * 4, [0.0] * 4])
    assert at_best_strength(Scores(FACTORS, unrated, unrated), Scores(FACTORS, same, same), resamples=5).alpha == 1.0


def test_a_factor_that_was_not_searched_is_refused() -> None:
    looked = scores(1, 5)
    with pytest.raises(PsrError, match="an alpha was not scored"):
        at_best_strength(looked.at([0.4, 1.0]), scores(2, 5), resamples=5)
