"""Verdicts as arithmetic, and intervals of paired differences against loops that redraw seeds and questions by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.evaluation.bootstrap import Interval, plain_mean
from psr.evaluation.claims import (
    CLAIMS,
    CONTRASTS,
    Difference,
    combined,
    difference,
    error_difference,
    mean_difference,
    seed_shares,
    verdict,
)
from psr.fitting.methods import parse_method
from psr.fitting.methods.named import plug_of

NUMBER = st.floats(-1e6, 1e6, allow_nan=False)
VERDICTS = ("holds", "fails", "undecided", "not measured")
OPPOSITE = {"holds": "fails", "fails": "holds", "undecided": "undecided"}


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, value, high = sorted(draw(NUMBER) for _ in range(3))
    return Interval(value, low, high)


@given(intervals(), NUMBER)
def test_a_verdict_says_on_which_side_of_the_margin_the_whole_interval_lies(interval, margin):
    inside = interval.low <= margin <= interval.high
    assert verdict(interval, margin) == ("undecided" if inside else "holds" if interval.value > margin else "fails")


@given(intervals(), NUMBER)
def test_the_opposite_claim_has_the_opposite_verdict(interval, margin):
    turned = Interval(-interval.value, -interval.high, -interval.low)
    assert verdict(turned, -margin) == OPPOSITE[verdict(interval, margin)]


@given(intervals(), NUMBER, st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_wider_interval_decides_nothing_that_a_narrower_one_does_not(interval, margin, below, above):
    wider = Interval(interval.value, interval.low - below, interval.high + above)
    assert verdict(wider, margin) in ("undecided", verdict(interval, margin))


@given(NUMBER, NUMBER)
def test_an_unknown_interval_decides_nothing(value, margin):
    assert verdict(Interval(value, math.nan, math.nan), margin) == "undecided"


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=6))
def test_a_claim_needs_all_its_parts_and_falls_with_one(parts):
    whole = combined(parts)
    assert combined(parts[::-1]) == whole
    assert (whole == "fails") == ("fails" in parts)
    assert (whole == "holds") == all(part == "holds" for part in parts)
    assert (whole == "not measured") == all(part == "not measured" for part in parts)


def test_every_claim_has_its_margin_and_every_contrast_names_known_methods():
    assert sorted(CLAIMS) == [1, 2, 3, 4, 5, 6, 7]
    assert all(claim.why and claim.unit for claim in CLAIMS.values())
    assert {contrast.claim for contrast in CONTRASTS} == {2, 3, 4, 7}
    keys = [(contrast.claim, contrast.part) for contrast in CONTRASTS]
    assert len(set(keys)) == len(keys)
    for contrast in CONTRASTS:
        for name in {contrast.higher, contrast.lower} - {"prompt"}:
            slug = name.removesuffix("+prompt")
            assert parse_method(slug).slug == slug


def test_with_a_judge_of_likelihoods_what_fits_them_is_compared_by_a_rule_and_no_prompt_is_at_a_ceiling():
    changed = {one.part: one.by_likelihoods() for one in CONTRASTS if one.by_likelihoods() != one}
    assert set(changed) == {"prompt at 50 to 95", "S-PSR LL, persona, prompt at most 95"}
    assert (changed["prompt at 50 to 95"].prompt, changed["prompt at 50 to 95"].column) == (None, "ta_cp")
    words = changed["S-PSR LL, persona, prompt at most 95"]
    assert (words.column, words.prompt) == ("words", (0.0, 95.0))
    for one in CONTRASTS:
        fits = {name: name != "prompt" and plug_of(parse_method(name.removesuffix("+prompt"))).learning.fits_likelihoods
                for name in (one.higher, one.lower)}  # fmt: skip
        assert (len(set(fits.values())) == 2 and one.benchmark == "persona") == bool(one.by_rule), one.part


def values(seed: int, mean: float, questions: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 10, questions)


def test_a_mean_difference_is_that_of_seeds_and_questions_redrawn_by_hand():
    """Two attributes, three seeds, two methods on the same questions: each resample draws 2 of 3 seeds, and the questions."""
    data = {
        a: [(values(10 * i + s, 60 + 5 * s), values(10 * i + s + 100, 50)) for s in range(3)]
        for i, a in enumerate("ab")
    }
    resamples, seed, n = 200, 7, 12
    found = mean_difference(
        {
            a: [difference(*(plain_mean(v, v, resamples=resamples, seed=seed) for v in pair)) for pair in group]
            for a, group in data.items()
        }
    )
    questions = np.random.default_rng([seed, 1]).multinomial(n, np.full(n, 1 / n), size=resamples)
    seeds = np.random.default_rng([seed, 2]).multinomial(2, np.full(3, 1 / 3), size=resamples)
    by_hand = []
    for on, of in zip(questions, seeds, strict=True):
        rows, drawn = np.repeat(np.arange(n), on), np.repeat(np.arange(3), of)
        by_hand.append(
            np.mean(
                [
                    np.mean([group[s][0][rows].mean() - group[s][1][rows].mean() for s in drawn])
                    for group in data.values()
                ]
            )
        )
    assert found.value == pytest.approx(np.mean([x.mean() - y.mean() for group in data.values() for x, y in group]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])))


def test_with_one_seed_the_questions_alone_are_redrawn():
    first, second = (plain_mean(v, v, seed=3) for v in (values(1, 60), values(2, 50)))
    found = mean_difference({"a": [difference(first, second)]})
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(first.samples - second.samples, [2.5, 97.5])))


def test_what_both_methods_share_cancels():
    hard = values(0, 50)
    found = mean_difference({"a": [difference(plain_mean(hard + 5, hard), plain_mean(hard, hard))] * 3})
    assert tuple(found) == pytest.approx((5, 5, 5))


def test_a_scale_makes_points_of_ratings():
    first, second = (plain_mean(v, v, seed=3) for v in (values(1, 1.5), values(2, 1.0)))
    one, scaled = difference(first, second), difference(first, second, 50)
    assert scaled.value == pytest.approx(50 * one.value)
    assert scaled.samples == pytest.approx(50 * one.samples)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_redrawn_seeds_spread_as_their_mean_does(seeds):
    """The bootstrap's variance is s²/S with S − 1 in s², where drawing S of S gives (S − 1)/S of it."""
    effects = np.random.default_rng(seeds).normal(0, 1, seeds)
    shares = seed_shares(seeds, 40_000, 1)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (shares @ effects).var() == pytest.approx(effects.var(ddof=1) / seeds, rel=0.03)


def test_one_seed_is_always_drawn():
    assert (seed_shares(1, 10, 0) == 1).all()


def test_a_seed_that_was_not_drawn_may_be_unknown_there():
    samples = np.arange(100.0)
    holes = np.where(seed_shares(2, 100, 0)[:, 1] > 0, 5.0, np.nan)
    found = mean_difference({"a": [Difference(1.0, samples, 0), Difference(5.0, holes, 0)]})
    assert np.isfinite(found).all()
    assert found.value == 3.0


def test_differences_that_were_not_drawn_together_are_refused():
    v = values(0, 50)
    with pytest.raises(PsrError, match="two figures were not resampled together"):
        difference(plain_mean(v, v, seed=1), plain_mean(v, v, seed=2))
    one, other = (Difference(0.0, np.zeros(5), seed) for seed in (1, 2))
    for group in ({"a": [one], "b": [other]}, {}, {"a": [one], "b": []}):
        with pytest.raises(PsrError, match="differences were not resampled together"):
            mean_difference(group)


def test_error_differences_are_roots_of_sums_over_the_drawn_questions():
    generator = np.random.default_rng(4)
    ours, floor, energy = generator.uniform(1, 9, (3, 4, 6))
    counts = generator.multinomial(6, np.full(6, 1 / 6), size=50).astype(float)
    found = error_difference((floor, energy), (ours, energy), [2, 3], counts, 4)

    def by_hand(questions: np.ndarray) -> float:
        rmse = [
            [math.sqrt(e[layer, questions].sum() / energy[layer, questions].sum()) for layer in (2, 3)]
            for e in (floor, ours)
        ]
        return float(np.mean(rmse[0]) - np.mean(rmse[1]))

    assert found.value == pytest.approx(by_hand(np.arange(6)))
    assert found.samples == pytest.approx([by_hand(np.repeat(np.arange(6), row.astype(int))) for row in counts])


def test_no_steering_has_a_relative_rmse_of_one():
    energy = np.random.default_rng(0).uniform(1, 2, (3, 5))
    found = error_difference((4 * energy, energy), None, [1], np.ones((2, 5)), 0)
    assert found.value == pytest.approx(1.0)  # √4 − 1
