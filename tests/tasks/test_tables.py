"""Parquet files: what comes back is what went in, byte for byte the same each time, and damage is named."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.types import Completion, CurvePoint, Dropped, Judgement, PromptPair, Triplet
from tasks.tables import parquet as tables
from tasks.tables.schemas import SCHEMAS

PAIR = PromptPair("persona/pirate", "What is ice?", "Talk like a pirate.")
ANSWER = Completion(PAIR.id, "instructed", 0.0, 7, "f" * 16, "t1", (3, 1, 2), "Arr, ice.", True, "Ice?")


def judgement(value: float | None) -> Judgement:
    return Judgement(ANSWER.id, "testbed", "1", "trait", value, 100.0, "raw", "" if value is not None else "refused")


def test_every_record_comes_back_equal(tmp_path: Path) -> None:
    tables.write_pairs(tmp_path / "pairs.parquet", [PAIR], "fit", "fit")
    tables.write_completions(tmp_path / "completions.parquet", [ANSWER])
    tables.write_judgements(tmp_path / "judgements.parquet", [judgement(12.5), judgement(None)])
    tables.write_triplets(tmp_path / "triplets.parquet", [Triplet(PAIR, ANSWER, 0.5, 0.75)])
    tables.write_dropped(tmp_path / "dropped.parquet", [Dropped(ANSWER.id, "trait under 0.5")])
    tables.write_curves(tmp_path / "curves.parquet", {"m1": (CurvePoint(1, 2.0, 1.5, 0.5, 0.0),)})
    assert tables.read_pairs(tmp_path / "pairs.parquet") == (PAIR,)
    assert tables.read_completions(tmp_path / "completions.parquet") == (ANSWER,)
    assert tables.read_judgements(tmp_path / "judgements.parquet") == (judgement(12.5), judgement(None))
    assert tables.read_triplets(tmp_path / "triplets.parquet", [PAIR], [ANSWER])[0] == Triplet(PAIR, ANSWER, 0.5, 0.75)
    assert tables.read_dropped(tmp_path / "dropped.parquet") == (Dropped(ANSWER.id, "trait under 0.5"),)
    assert tables.read_curves(tmp_path / "curves.parquet") == {"m1": (CurvePoint(1, 2.0, 1.5, 0.5, 0.0),)}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    thinking=st.text(st.characters(exclude_categories=["Cs"])),
    ids=st.lists(st.integers(0, 2**31 - 1), max_size=9),
    alpha=st.floats(-4, 4),
)
def test_any_completion_survives_the_round_trip(
    tmp_path: Path, text: str, thinking: str, ids: list[int], alpha: float
) -> None:
    answer = Completion(PAIR.id, "m", alpha, 1, "model", "s", tuple(ids), text, False, thinking)
    path = tables.write_completions(tmp_path / "c.parquet", [answer])
    assert tables.read_completions(path) == (answer,)


def test_equal_rows_give_equal_bytes_and_leave_nothing_aside(tmp_path: Path) -> None:
    digests = set()
    for folder in ("one", "two"):
        path = tables.write_completions(tmp_path / folder / "c.parquet", [ANSWER] * 500)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert [p.name for p in path.parent.iterdir()] == ["c.parquet"]
    assert len(digests) == 1


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_keeps_its_types(tmp_path: Path, name: str) -> None:
    path = tables.write_table(tmp_path / "t.parquet", name, [])
    assert pq.read_schema(path).equals(SCHEMAS[name])
    assert tables.read_table(path, name) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PsrError, match=r"a table is missing \(.*nowhere.parquet\).*dvc pull"):
        tables.read_pairs(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, keep: float) -> None:
    path = tables.write_completions(tmp_path / "c.parquet", [ANSWER] * 100)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(PsrError, match=r"a table is damaged \(.*c.parquet\).*run the stage again") as error:
        tables.read_completions(path)
    assert "\n" not in str(error.value)


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["x"], "pair": ["y"]}), tmp_path / "c.parquet")
    with pytest.raises(PsrError, match=r"lacks columns.*no method, alpha"):
        tables.read_completions(tmp_path / "c.parquet")


def test_a_file_with_other_types_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"completion": ["x"], "reason": [[1]]}), tmp_path / "d.parquet")
    with pytest.raises(PsrError, match="other types"):
        tables.read_dropped(tmp_path / "d.parquet")


def test_a_row_edited_by_hand_is_refused(tmp_path: Path) -> None:
    path = tables.write_completions(tmp_path / "c.parquet", [ANSWER])
    row = {**tables.read_table(path, "completions")[0], "alpha": 1.0}
    tables.write_table(path, "completions", [row])
    with pytest.raises(PsrError, match="does not belong to its id"):
        tables.read_completions(path)


def test_a_triplet_without_its_parent_is_refused(tmp_path: Path) -> None:
    path = tables.write_triplets(tmp_path / "t.parquet", [Triplet(PAIR, ANSWER, 0.5, 0.75)])
    with pytest.raises(PsrError, match="a triplet without its parent"):
        tables.read_triplets(path, [PAIR], [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "c"}, "other columns than its table"),
        ({"completion": "c", "reason": None}, "a value is missing"),
        ({"completion": "c", "reason": 3}, "does not fit its column"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    with pytest.raises(PsrError, match=message):
        tables.write_table(tmp_path / "d.parquet", "dropped", [row])
    assert list(tmp_path.iterdir()) == []
