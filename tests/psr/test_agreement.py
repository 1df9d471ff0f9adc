"""Agreement of two judges against scikit-learn and scipy, against a loop over redrawn questions, and where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from psr.errors import PsrError
from psr.evaluation import agreement
from psr.evaluation.agreement import Agreement, agreement_of

PARTS = ("equal", "kappa", "auc", "auc_other", "spearman", "distance")


def drawn(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two judges' values with many ties, and questions of several answers each."""
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 11, n) / 10
    b = np.clip(a + generator.integers(-4, 5, n) / 10, 0, 1)
    return a, b, [f"question {i}" for i in generator.integers(0, n // 4, n)]


def by_others(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The same figures by other people's code; nan where they have none."""
    yes, yes_other = a >= 0.5, b >= 0.5
    both = [len(set(verdicts)) == 2 for verdicts in (yes, yes_other)]
    return {
        "equal": float(np.mean(yes == yes_other)),
        "kappa": cohen_kappa_score(yes, yes_other) if all(both) else np.nan,
        "auc": roc_auc_score(yes_other, a) if both[1] else np.nan,
        "auc_other": roc_auc_score(yes, b) if both[0] else np.nan,
        "spearman": spearmanr(a, b).statistic if min(np.ptp(a), np.ptp(b)) > 0 else np.nan,
        "distance": float(np.abs(a - b).mean()),
    }


def values(found: Agreement) -> dict[str, float]:
    return {name: getattr(found, name).value for name in PARTS}


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_scikit_learn_and_scipy(seed):
    a, b, questions = drawn(seed)
    found = agreement_of(a, b, questions, resamples=2)
    assert values(found) == pytest.approx(by_others(a, b), abs=1e-12)
    assert (found.n, found.missing, found.missing_other) == (60, 0, 0)
    assert (found.mean, found.mean_other) == pytest.approx((a.mean(), b.mean()))


@pytest.mark.parametrize("at_once", [agreement.AT_ONCE, 100])
def test_the_intervals_are_those_of_a_loop_that_redraws_questions_with_all_their_answers(at_once, monkeypatch):
    monkeypatch.setattr(agreement, "AT_ONCE", at_once)
    a, b, questions = drawn(7, 24)
    found = agreement_of(a, b, questions, resamples=60, seed=4)
    names = sorted(set(questions))
    generator = np.random.default_rng([4, 1])
    samples = []
    for counts in generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=60):
        drawn_again = [at for at, name in enumerate(questions) for _ in range(counts[names.index(name)])]
        samples.append(by_others(a[drawn_again], b[drawn_again]))
    for name in PARTS:
        ends = np.nanpercentile([sample[name] for sample in samples], [2.5, 97.5])
        assert getattr(found, name)[1:] == pytest.approx(tuple(ends), abs=1e-12), name


def test_judges_exchanged_give_the_same_figures_with_the_two_aucs_exchanged():
    a, b, questions = drawn(1)
    one, back = (agreement_of(*sides, questions, resamples=50) for sides in ((a, b), (b, a)))
    assert (one.auc, one.auc_other) == (back.auc_other, back.auc)
    assert one.auc != one.auc_other
    for name in ("equal", "kappa", "spearman", "distance"):
        assert getattr(one, name) == pytest.approx(getattr(back, name), abs=1e-12)


def test_what_either_judge_did_not_rate_is_counted_and_left_out():
    a, b, questions = drawn(2)
    whole = agreement_of(a[6:], b[6:], questions[6:], resamples=20)
    a[:4], b[2:6] = np.nan, np.nan
    found = agreement_of(a, b, questions, resamples=20)
    assert (found.n, found.missing, found.missing_other) == (54, 4, 4)
    assert values(found) == values(whole)
    assert found.kappa == whole.kappa


@pytest.mark.parametrize(
    ("a", "b", "undefined"),
    [
        ([], [], set(PARTS)),
        ([np.nan, np.nan], [1.0, 0.0], set(PARTS)),
        ([0.9, 0.6, 0.8], [0.1, 0.7, 0.9], {"kappa", "auc_other"}),  # the first always says yes
        ([0.5, 0.5, 0.5], [0.1, 0.7, 0.9], {"kappa", "auc_other", "spearman"}),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], {"kappa", "auc", "auc_other", "spearman"}),
    ],
)
def test_what_the_answers_cannot_tell_is_none_and_never_0(a, b, undefined):
    found = agreement_of(a, b, [f"{at}" for at in range(len(a))], resamples=20)
    assert {name for name in PARTS if getattr(found, name) is None} == undefined
    assert (found.mean is None) == (found.n == 0)


def test_half_of_the_scale_is_a_yes():
    found = agreement_of([0.5, 0.49, 0.0], [1.0, 0.0, 0.51], "abc", resamples=2)
    assert found.equal is not None
    assert found.equal.value == pytest.approx(2 / 3)


def test_judges_that_always_contradict_each_other_are_below_0_and_not_at_it():
    found = agreement_of([1.0, 0.8, 0.2, 0.0], [0.0, 0.2, 0.8, 1.0], "abcd", resamples=2)
    assert values(found) == pytest.approx(
        {"equal": 0, "kappa": -1, "auc": 0, "auc_other": 0, "spearman": -1, "distance": 0.8}
    )


def test_answers_to_one_question_have_figures_and_no_interval():
    found = agreement_of([1.0, 0.0, 0.8], [0.9, 0.1, 0.2], ["Rain?"] * 3)
    assert found.equal is not None
    assert found.equal.value == pytest.approx(2 / 3)
    assert np.isnan(found.equal[1:]).all()


def test_values_of_unequal_length_are_refused():
    with pytest.raises(PsrError, match=r"not of the same answers, expected 3 values of each.*got \(2,\) and \(3,\)"):
        agreement_of([0.1, 0.2], [0.1, 0.2, 0.3], "abc")
