from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from psr.testbed.benchmarks import NO_CONCEPT, axbench_rows, ifeval_rows, persona_object, write_benchmarks
from psr.testbed.concepts import CONCEPTS, concept_named
from psr.testbed.formats import FORMATS
from psr.testbed.neutral import NEUTRAL, NEUTRAL_HELD_OUT
from psr.testbed.questions import HELD_OUT_FORMS, topic_of
from psr.testbed.rating import rate_concept
from psr.testbed.topics import FITTING, HELD_OUT
from psr.testbed.traits import TRAITS


@pytest.mark.parametrize("trait", TRAITS.values(), ids=list(TRAITS))
def test_persona_files_hold_out_topics_forms_and_paraphrases(trait) -> None:
    extract, held_out = persona_object(trait, False), persona_object(trait, True)
    assert (len(extract["questions"]), len(held_out["questions"])) == (120, 96)
    assert {topic_of(q) for q in extract["questions"]} == set(FITTING)
    assert {topic_of(q) for q in held_out["questions"]} == set(HELD_OUT)
    forms = {q.replace(topic_of(q).name, "{}") for q in held_out["questions"]}
    assert set(HELD_OUT_FORMS) < forms
    assert not set(HELD_OUT_FORMS) & {q.replace(topic_of(q).name, "{}") for q in extract["questions"]}
    assert [pair["pos"] for pair in extract["instruction"]] == list(trait.instructions)
    assert [pair["pos"] for pair in held_out["instruction"]] == list(trait.held_out)
    assert [pair["neg"] for pair in extract["instruction"]] == list(NEUTRAL)
    assert [pair["neg"] for pair in held_out["instruction"]] == list(NEUTRAL_HELD_OUT)
    assert "{question}" in extract["eval_prompt"]
    assert "{answer}" in extract["eval_prompt"]


def test_either_half_of_the_held_out_questions_has_every_topic() -> None:
    """Every other question chooses alpha, the rest give the figures."""
    for trait in TRAITS.values():
        questions = persona_object(trait, True)["questions"]
        for half in (questions[::2], questions[1::2]):
            assert {topic_of(q) for q in half} == set(HELD_OUT)


def test_ifeval_rows_have_the_public_columns() -> None:
    for held_out in (False, True):
        rows = ifeval_rows(held_out)
        assert len({row["key"] for row in rows}) == len(rows)
        assert {row["instruction_id_list"][0] for row in rows} == {layout.instruction_id for layout in FORMATS.values()}
        for row in rows:
            assert row["prompt"].startswith(row["prompt_without_instruction"] + " ")
            assert len(row["instruction_id_list"]) == len(row["kwargs"]) == 1
            assert topic_of(row["prompt"]) in (HELD_OUT if held_out else FITTING)


def test_axbench_rows_have_the_public_columns_and_answers_with_the_concept() -> None:
    rows = axbench_rows(False)
    assert list(rows[0]) == [
        "input", "output", "output_concept", "concept_genre", "category", "dataset_category", "concept_id",
    ]  # fmt: skip
    assert {row["concept_id"] for row in rows} == {-1, *range(len(CONCEPTS))}
    for row in rows:
        if row["concept_id"] < 0:
            assert (row["output_concept"], row["category"]) == (NO_CONCEPT, "negative")
        else:
            rating = rate_concept(row["input"], row["output"], concept_named(row["output_concept"]))
            assert rating[1:] == (2, 2)


def test_files_are_written_with_equal_bytes_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_benchmarks(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 2 * len(TRAITS) + 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_the_shipped_files_are_those_that_the_code_writes(tmp_path: Path, root: Path) -> None:
    write_benchmarks(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".parquet":
            assert path.read_bytes() == (root / "data/testbed" / path.relative_to(tmp_path)).read_bytes(), path
    for side in ("train", "test"):
        mine, shipped = (
            parquet.read_table(f / "axbench" / f"{side}.parquet") for f in (tmp_path, root / "data/testbed")
        )
        assert mine.equals(shipped)


def test_lines_of_ifeval_are_json_objects(tmp_path: Path) -> None:
    write_benchmarks(tmp_path)
    lines = (tmp_path / "ifeval/train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ifeval_rows(False)
