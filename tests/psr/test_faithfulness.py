"""Relative RMSE, energy shares and spreads against loops, torch.linalg.svd and numpy on the tokens drawn again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation import faithfulness as f
from psr.evaluation.resampling import once, resample
from psr.lm.recording import Targets

OFFSETS = (0, 3, 7, 9)
DELTA = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(3))


def targets(values: torch.Tensor, offsets: tuple[int, ...] = OFFSETS) -> Targets:
    return Targets(values, offsets, (0, 1), "m", "R")


def drawn(counts: np.ndarray) -> list[int]:
    """The tokens of the questions as often as they were drawn."""
    return [t for q, n in enumerate(counts) for _ in range(int(n)) for t in range(OFFSETS[q], OFFSETS[q + 1])]


def test_relative_rmse_is_the_error_over_all_drawn_tokens_relative_to_the_prompts_effect():
    plain, steered = torch.randn(2, 9, 5), torch.randn(2, 9, 5)
    goal = plain + DELTA
    energy, errors = f.squared_errors(targets(plain), targets(goal)), f.squared_errors(targets(steered), targets(goal))
    counts = resample(3, 20, 1, 0)
    found = f.relative_rmse(errors, energy, counts)
    for r in range(20):
        tokens = drawn(counts[r])
        for layer in range(2):
            by_hand = (steered - goal)[layer, tokens].norm() / (plain - goal)[layer, tokens].norm()
            assert found[r, layer] == pytest.approx(float(by_hand), rel=1e-5)


def test_runs_at_other_tokens_are_refused():
    with pytest.raises(PsrError, match="same tokens"):
        f.squared_errors(targets(DELTA), targets(DELTA, (0, 4, 7, 9)))


def test_no_effect_gives_no_figure():
    nothing = np.zeros((2, 3))
    assert np.isnan(f.relative_rmse(np.ones((2, 3)), nothing, once(3))).all()


def test_energy_shares_are_those_of_the_singular_values_and_rise_to_one():
    ranks = (1, 2, 4, 8)
    along = f.energy_along(DELTA, f.directions(DELTA, 8), OFFSETS, ranks)
    shares = f.ratio(along, f.energy(DELTA, OFFSETS), once(3))[0]
    for layer in range(2):
        squares = torch.linalg.svd(DELTA[layer].double()).S.square()
        by_hand = [float(squares[:r].sum() / squares.sum()) for r in ranks]
        assert shares[:, layer] == pytest.approx(by_hand)
    assert (np.diff(shares, axis=0) >= 0).all()
    assert shares[-1] == pytest.approx([1.0, 1.0])


def test_energy_shares_of_drawn_questions_keep_the_directions():
    vectors, counts = f.directions(DELTA, 1), resample(3, 10, 2, 0)
    found = f.ratio(f.energy_along(DELTA, vectors, OFFSETS, (1,)), f.energy(DELTA, OFFSETS), counts)
    for r in range(10):
        here = DELTA[1, drawn(counts[r])].double()
        by_hand = (here @ vectors[1, 0]).square().sum() / here.square().sum()
        assert found[r, 0, 1] == pytest.approx(float(by_hand))


def test_directions_are_singular_vectors_signed_by_the_mean():
    vectors = f.directions(DELTA, 3)
    for layer in range(2):
        right = torch.linalg.svd(DELTA[layer].double()).Vh[:3]
        assert (vectors[layer] * right).sum(-1).abs().tolist() == pytest.approx([1.0] * 3)
        assert ((DELTA[layer].double() @ vectors[layer].T).sum(0) >= 0).all()


def test_one_direction_holds_everything_where_the_effect_has_one():
    delta = torch.outer(torch.tensor([1.0, 5.0, -2.0]), torch.tensor([3.0, 4.0]))[None]
    along = f.energy_along(delta, f.directions(delta, 1), (0, 1, 3), (1,))
    assert f.ratio(along, f.energy(delta, (0, 1, 3)), once(2))[0, 0] == pytest.approx([1.0])


@given(st.integers(0, 1000))
def test_quantiles_are_those_of_the_tokens_drawn_again(seed):
    strengths = np.random.default_rng(seed).exponential(size=9)
    question, counts = np.repeat([0, 1, 2], np.diff(OFFSETS)), resample(3, 5, seed, 0)
    found = f.quantiles(strengths, question, counts)
    for r in range(5):
        by_hand = np.quantile(strengths[drawn(counts[r])], f.QUANTILES, method="inverted_cdf")
        assert found[r] == pytest.approx(by_hand)


def test_spread_is_the_99th_over_the_1st_percentile():
    strengths = np.arange(1.0, 101.0)
    assert f.spread(strengths, np.zeros(100, dtype=int), once(1))[0] == 99.0
    assert np.isnan(f.spread(np.zeros(100), np.zeros(100, dtype=int), once(1))[0])
