"""Ratios of alternating pairs: what they are whatever is timed, and in which order it is."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from tasks.studies.bench.pairs import Figure, Ratio, alternate, ratio

seconds = st.floats(1e-3, 1e3)
pairs = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=40)


def of(both: list[tuple[float, float]]) -> Ratio:
    return ratio([a for a, _ in both], [b for _, b in both])


@given(pairs)
def test_median_and_quartiles_are_in_order_and_among_the_ratios(both):
    found, values = of(both), [a / b for a, b in both]
    assert found.low <= found.median <= found.high
    assert min(values) <= found.low * (1 + 1e-12)
    assert found.high <= max(values) * (1 + 1e-12)
    assert found.n == len(both)
    assert found.median == pytest.approx(statistics.median(values))


@given(st.lists(seconds, min_size=2, max_size=40))
def test_quartiles_are_the_standard_librarys(values):
    found = ratio(values, [1.0] * len(values))
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@given(pairs, st.floats(0.01, 100))
def test_a_machine_slower_for_both_changes_nothing_and_one_side_slower_scales(both, factor):
    slower = of([(factor * a, factor * b) for a, b in both])
    assert slower.median == pytest.approx(of(both).median)
    assert of([(factor * a, b) for a, b in both]).high == pytest.approx(factor * of(both).high)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_is_of_no_account(both, random):
    mixed = list(both)
    random.shuffle(mixed)
    assert of(mixed) == of(both)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=19).filter(lambda both: len(both) % 2 == 1))
def test_the_other_way_round_is_the_inverse(both):
    assert of([(b, a) for a, b in both]).median == pytest.approx(1 / of(both).median)


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [float("nan")])])
def test_what_is_no_pair_of_durations_is_refused(above, below):
    with pytest.raises(PsrError, match="a ratio needs"):
        ratio(above, below)


def test_runs_take_turns_forwards_and_backwards_after_one_warm_up():
    done: list[str] = []
    advanced: list[int] = []
    alternate([lambda: done.append("a"), lambda: done.append("b")], 3, advance=advanced.append)
    assert "".join(done) == "ab" + "ab" + "ba" + "ab"
    assert advanced == [1, 1, 1]


def test_each_run_is_charged_its_own_time_and_the_wait_for_the_device():
    now = [0.0]

    def takes(seconds: float):
        return lambda: now.__setitem__(0, now[0] + seconds)

    found = alternate([takes(2), takes(5)], 2, clock=lambda: now[0], settle=takes(0.25))
    assert found == [[2.25, 2.25], [5.25, 5.25]]  # the wait before is not counted, the one after is


def test_fewer_than_one_repeat_is_refused():
    with pytest.raises(PsrError, match="fewer times than once"):
        alternate([lambda: None], 0)


@pytest.mark.parametrize(("goal", "median", "verdict", "words"), [
    ({"at_least": 0.85}, 0.85, "met", "≥ 0.85"), ({"at_least": 0.85}, 0.849, "missed", "≥ 0.85"),
    ({"at_most": 1.5}, 1.5, "met", "≤ 1.5"), ({"at_most": 1.5}, 1.51, "missed", "≤ 1.5"), ({}, 0.1, None, None),
])  # fmt: skip
def test_the_verdict_follows_from_the_goal(goal, median, verdict, words):
    row = Figure("x", "a", "b", Ratio(median, 0.0, 9.0, 3), **goal).row()
    assert (row["verdict"], row["goal"]) == (verdict, words)
