"""Asking judges: nothing is lost, nothing becomes 0, order is kept."""

import math
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import JudgeError, PsrError
from psr.judges.judging import judge_all
from psr.types import JudgeItem, Judgement, Usage, Verdicts


@dataclass
class Scripted:
    """Trait = the text's length, coherence = 100. `errors` are raised first, one a call; `change` edits verdicts."""

    id: str = "scripted"
    rubric: str = "1"
    dimensions: tuple[str, ...] = ("trait", "coherence")
    errors: list[Exception] = field(default_factory=list)
    change: object = staticmethod(lambda judgements: judgements)
    calls: list[int] = field(default_factory=list)

    def __call__(self, items):
        self.calls.append(len(items))
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        judgements = [
            Judgement(item.completion, self.id, self.rubric, dimension, value, 100.0, raw=item.text)
            for item in items
            for dimension, value in zip(self.dimensions, (float(len(item.text)), 100.0), strict=True)
        ]
        return Verdicts(tuple(self.change(judgements)), Usage(1, 10 * len(items), len(items)))


def items(n):
    return [JudgeItem(f"c{i}", "persona/x", "Why?", "x" * i) for i in range(n)]


def values(verdicts):
    return [(j.completion, j.dimension, j.value) for j in verdicts.judgements]


@given(st.integers(0, 12), st.integers(1, 5))
def test_order_is_kept_and_usage_summed_whatever_the_batches(n, batch_size):
    done = []
    verdicts = judge_all(Scripted(), items(n), batch_size=batch_size, progress=done.append)
    pairs = [((f"c{i}", "trait", float(i)), (f"c{i}", "coherence", 100.0)) for i in range(n)]
    assert values(verdicts) == [value for pair in pairs for value in pair]
    assert verdicts.usage == Usage(math.ceil(n / batch_size), 10 * n, n)
    assert sum(done) == n


def test_a_judge_may_answer_in_any_order():
    assert values(judge_all(Scripted(change=lambda js: js[::-1]), items(5))) == values(judge_all(Scripted(), items(5)))


def test_an_error_that_a_retry_may_mend_is_tried_again():
    judge = Scripted(errors=[JudgeError("busy", retryable=True)] * 2)
    assert values(judge_all(judge, items(3), retries=2, wait=0)) == values(judge_all(Scripted(), items(3)))
    assert judge.calls == [3, 3, 3]


def test_waits_grow_between_tries(monkeypatch):
    waits = []
    monkeypatch.setattr("psr.judges.judging.time.sleep", waits.append)
    judge_all(Scripted(errors=[JudgeError("busy", retryable=True)] * 4), items(1), retries=3, wait=0.5)
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(("retryable", "calls"), [(True, [2, 2, 2]), (False, [2])])
def test_a_lasting_error_leaves_judgements_without_value_that_say_why(retryable, calls):
    judge = Scripted(errors=[JudgeError("no such model", retryable=retryable, where="judge x")] * len(calls))
    verdicts = judge_all(judge, items(4), batch_size=2, wait=0)
    assert judge.calls == [*calls, 2]
    assert [(j.value, j.error) for j in verdicts.judgements[:4]] == [(None, "no such model (judge x)")] * 4
    assert [j.value for j in verdicts.judgements[4:]] == [2.0, 100.0, 3.0, 100.0]
    assert {j.scale for j in verdicts.judgements} == {100.0}


BAD = [
    math.nan,
    math.inf,
    -0.1,
    100.1,
    10**400,
    "85",
    "",
    b"85",
    True,
    False,
    [85.0],
    (85.0,),
    {"value": 85.0},
    85 + 0j,
    object,
    Decimal("nan"),
    Decimal("sNaN"),
    np.float32("nan"),
    np.int64(101),
    np.bool_(True),
    np.str_("85"),
    np.complex128(85),
    np.array([85.0]),
    torch.tensor(math.inf),
    torch.tensor(True),
    torch.tensor([85.0]),
]


@pytest.mark.parametrize("bad", BAD, ids=[f"{type(bad).__name__} {bad!r:.20}" for bad in BAD])
def test_a_value_that_is_no_number_of_its_scale_is_no_value(bad):
    judge = Scripted(change=lambda js: [replace(js[0], value=bad), *js[1:]])
    first, second = judge_all(judge, items(1)).judgements
    assert (first.value, first.scale) == (None, 100.0)
    shown = repr(bad) if len(repr(bad)) <= 60 else f"{repr(bad)[:57]}..."
    assert first.error == f"value {shown} is not a number from 0 to 100"
    assert second.value == 100.0


@pytest.mark.parametrize(
    "value",
    [
        85,
        Fraction(85),
        Decimal(85),
        np.float32(85),
        np.float64(85),
        np.int64(85),
        np.array(85.0),
        torch.tensor(85.0),
        torch.tensor(85, dtype=torch.bfloat16),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_number_of_any_other_type_becomes_a_float(value):
    judge = Scripted(change=lambda js: [replace(js[0], value=value, scale=value + 15), *js[1:]])
    first = judge_all(judge, items(1)).judgements[0]
    assert [(type(x), x) for x in (first.value, first.scale)] == [(float, 85.0), (float, 100.0)]
    assert first.error == ""


@pytest.mark.parametrize("bad", [0, 0.0, -1, math.nan, math.inf, None, "100", True, [100], 10**400, torch.tensor(0.0)])
def test_a_value_on_a_scale_that_is_no_positive_number_is_no_value(bad):
    judge = Scripted(change=lambda js: [replace(js[0], scale=bad), *js[1:]])
    first, _, third, _ = judge_all(judge, items(2)).judgements
    assert first.value is None
    assert re.fullmatch(r"scale .+ is not a positive number", first.error)
    assert (third.value, first.scale) == (1.0, 100.0), "it takes the scale of the others"


@pytest.mark.parametrize("bad", [None, "100", math.nan, -1])
def test_a_judgement_that_a_judge_did_not_make_needs_no_scale(bad):
    judge = Scripted(change=lambda js: [replace(js[0], value=None, error="off topic", scale=bad), *js[1:]])
    first = judge_all(judge, items(2)).judgements[0]
    assert (first.value, first.scale, first.error) == (None, 100.0, "off topic")


def test_the_ends_of_the_scale_are_values():
    judge = Scripted(change=lambda js: [replace(js[0], value=0.0), replace(js[1], value=100.0)])
    assert [j.value for j in judge_all(judge, items(1)).judgements] == [0.0, 100.0]


def test_a_verdict_that_is_missing_becomes_a_judgement_without_value():
    first, *others = judge_all(Scripted(change=lambda js: js[1:]), items(2)).judgements
    assert (first.completion, first.dimension, first.value) == ("c0", "trait", None)
    assert "no verdict" in first.error
    assert all(j.value is not None for j in others)


def test_a_judges_own_missing_value_keeps_its_reason_and_gets_one_if_it_gave_none():
    judge = Scripted(change=lambda js: [replace(js[0], value=None, error="off topic"), replace(js[1], value=None)])
    first, second = judge_all(judge, items(1)).judgements
    assert (first.value, first.error) == (None, "off topic")
    assert (second.value, bool(second.error)) == (None, True)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda js: [*js, js[0]], "a second"),
        (lambda js: [replace(js[0], completion="another"), *js[1:]], "one"),
        (lambda js: [replace(js[0], dimension="beauty"), *js[1:]], "one"),
        (lambda js: [replace(js[0], judge="another"), *js[1:]], "one"),
        (lambda js: [replace(js[0], rubric="2"), *js[1:]], "one"),
        (lambda js: [replace(js[0], completion=["c0"]), *js[1:]], "one"),
        (lambda js: [replace(js[0], dimension=None), *js[1:]], "one"),
    ],
)
def test_a_judge_that_answers_what_it_was_not_asked_is_refused(change, got):
    with pytest.raises(PsrError, match=rf"judge scripted.*got {got} on .*Mend the judge"):
        judge_all(Scripted(change=change), items(2))


def test_a_completion_asked_twice_is_judged_once():
    judge = Scripted()
    verdicts = judge_all(judge, [*items(2), *items(2)])
    assert judge.calls == [2]
    assert values(verdicts)[:4] == values(verdicts)[4:]


def test_an_error_that_is_no_judge_error_ends_the_run_in_one_line_that_names_the_judge():
    for raised in (ZeroDivisionError("by\nzero"), TypeError("no"), ConnectionError("refused")):
        judge, done = Scripted(errors=[None, raised]), []
        with pytest.raises(
            PsrError, match=rf"\(judge scripted\), .*got {type(raised).__name__}.*Mend the judge"
        ) as error:
            judge_all(judge, items(4), batch_size=2, wait=0, progress=done.append)
        assert error.value.__cause__ is raised
        assert "\n" not in str(error.value)
        assert (judge.calls, done) == ([2, 2], [2]), "it is not tried again"


def test_a_psr_error_of_a_judge_and_ctrl_c_stay_what_they_are():
    for raised in (PsrError("no rubric"), KeyboardInterrupt()):
        with pytest.raises(type(raised)) as error:
            judge_all(Scripted(errors=[raised]), items(1))
        assert error.value is raised


@pytest.mark.parametrize("answer", [
    None, [], {"judgements": ()}, Verdicts(None), Verdicts(7), Verdicts("trait"), Verdicts((None,)), Verdicts((85.0,)),
    Verdicts(({"value": 85.0},)), Verdicts((), None),
])  # fmt: skip
def test_an_answer_that_holds_no_judgements_is_refused_with_the_judges_name(answer):
    class Other(Scripted):
        def __call__(self, items):
            return answer

    with pytest.raises(PsrError, match=r"something else than judgements \(judge scripted\).*Mend the judge") as error:
        judge_all(Other(), items(1))
    assert "\n" not in str(error.value)


def test_judgements_may_come_one_by_one():
    class OneByOne(Scripted):
        def __call__(self, items):
            verdicts = super().__call__(items)
            return replace(verdicts, judgements=iter(verdicts.judgements))

    assert values(judge_all(OneByOne(), items(3))) == values(judge_all(Scripted(), items(3)))


def test_impossible_batches_are_refused():
    for wrong in ({"batch_size": 0}, {"retries": -1}):
        with pytest.raises(PsrError, match="batch_size of at least 1 and retries of 0 or more"):
            judge_all(Scripted(), items(1), **wrong)


def test_a_value_beyond_the_scale_is_kept_on_an_unbounded_dimension_alone():
    class Line(Scripted):
        unbounded = ("trait",)

        def __call__(self, items):
            verdicts = super().__call__(items)
            numbers = iter([-20.0, -20.0, 130.0, 130.0, math.inf, 100.0])
            return replace(verdicts, judgements=tuple(replace(one, value=next(numbers)) for one in verdicts.judgements))

    judged = judge_all(Line(), items(3)).judgements
    assert [one.value for one in judged] == [-20, None, 130, None, None, 100]
    assert [one.error for one in judged if one.value is None] == [
        "value -20.0 is not a number from 0 to 100",
        "value 130.0 is not a number from 0 to 100",
        "value inf is not a finite number",
    ]
