"""Ids change with what changes the answer, and with nothing else."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import JudgeError, PsrError
from psr.types import Completion, PromptPair, completion_id, short_hash

BASE = Completion("pair", "instructed", 1.0, 7, "model", "t=1", (3, 4), "text", True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3), max_leaves=5
)


@pytest.mark.parametrize(
    ("field", "value"),
    [("pair", "other"), ("method", "plain"), ("alpha", 1.5), ("seed", 8), ("model", "other"), ("sampling", "t=0")],
)
def test_a_completion_id_changes_with_what_changes_the_answer(field, value):
    assert dataclasses.replace(BASE, **{field: value}).id != BASE.id


@pytest.mark.parametrize(("field", "value"), [("token_ids", ()), ("text", "else"), ("finished", False)])
def test_a_completion_id_is_known_before_the_answer(field, value):
    assert dataclasses.replace(BASE, **{field: value}).id == BASE.id


def test_a_completion_id_takes_an_integer_alpha_as_the_same_number():
    assert completion_id("p", "m", 1, 0, "f", "s") == completion_id("p", "m", 1.0, 0, "f", "s")


@given(st.lists(json_values, max_size=4), st.lists(json_values, max_size=4))
def test_short_hash_is_equal_exactly_when_the_parts_are(a, b):
    same = repr(a) == repr(b)  # 1 and True differ, as they do in JSON
    assert (short_hash(*a) == short_hash(*b)) == same


def test_plain_and_instructed_differ_by_the_instruction_only():
    pair = PromptPair("a/b", "why?", "be kind")
    assert pair.instructed[1:] == pair.plain
    assert pair.instructed[0] == ("system", "be kind")


def test_importing_psr_and_its_types_needs_no_torch_and_no_pipeline():
    code = (
        "import sys, psr, psr.types, psr.errors, psr.fitting.methods; "
        "print([m for m in ('torch', 'transformers', 'prefect', 'dvc', 'mlflow', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_psr_imports_without_the_pipeline():
    code = (
        "import sys, psr; [getattr(psr, name) for name in psr.__all__]; "
        "print([m for m in ('prefect', 'dvc', 'mlflow', 'duckdb', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_is_one_line_that_says_what_where_expected_got_and_what_to_do():
    error = PsrError("no such\nthing", where="file", expected="a", got="b", do="Do c.")
    assert str(error) == "no such thing (file), expected a, got b. Do c."


def test_errors_survive_a_trip_between_processes():
    import copy

    error = copy.copy(JudgeError("busy", retryable=True, where="endpoint"))
    assert (str(error), error.retryable, type(error)) == ("busy (endpoint)", True, JudgeError)
