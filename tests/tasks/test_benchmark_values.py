"""What benchmarks' files may hold: values of the format's types only, and every question on one side only."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from psr.errors import PsrError
from tasks.benchmarks.catalogue import load_attributes
from tasks.benchmarks.questions import distinct, divide
from tests.benchmark_files import concept_row, line, trait, write_concepts, write_lines, write_persona, write_rows


def refusal(benchmark: str, folder: Path) -> str:
    with pytest.raises(PsrError) as error:
        load_attributes(benchmark, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("change", "place", "expected", "got"), [
    ({"questions": ["a", 3]}, "questions[1]", "text", "3"),
    ({"questions": [3, 4]}, "questions[0]", "text", "3"),
    ({"questions": ["a", None]}, "questions[1]", "text", "nothing"),
    ({"questions": ["a", ["b"]]}, "questions[1]", "text", "['b']"),
    ({"questions": ["a", True]}, "questions[1]", "text", "True"),
    ({"questions": "abc"}, "questions", "[text]", "'abc'"),
    ({"questions": None}, "questions", "[text]", "nothing"),
    ({"questions": {"a": "b"}}, "questions", "[text]", "{'a': 'b'}"),
    ({"instruction": [{"pos": "a", "neg": "b"}, {"pos": None, "neg": "b"}]}, "instruction[1].pos", "text", "nothing"),
    ({"instruction": [{"neg": "b"}]}, "instruction[0].pos", "text", "nothing"),
    ({"instruction": [{"pos": 5, "neg": "b"}]}, "instruction[0].pos", "text", "5"),
    ({"instruction": [{"pos": "a", "neg": ["b"]}]}, "instruction[0].neg", "text or nothing", "['b']"),
    ({"instruction": ["a"]}, "instruction[0]", "{pos: text, neg: text or nothing}", "'a'"),
    ({"eval_prompt": None}, "eval_prompt", "text", "nothing"),
    ({"eval_prompt": ["Rate it."]}, "eval_prompt", "text", "['Rate it.']"),
])  # fmt: skip
@pytest.mark.parametrize("side", ["extract", "eval"])
def test_a_persona_value_of_another_type_is_refused_and_never_made_text(
    tmp_path: Path, side: str, change: dict[str, Any], place: str, expected: str, got: str
) -> None:
    path = write_persona(tmp_path) / side / "loud.json"
    path.write_text(json.dumps(trait(["q1", "q2", "q3"]) | change))
    assert refusal("persona", tmp_path).endswith(f"({path}, {place}), expected {expected}, got {got}")


@pytest.mark.parametrize(("change", "place", "expected", "got"), [
    ({"prompt": None}, "prompt", "text", "nothing"),
    ({"prompt": 5}, "prompt", "text", "5"),
    ({"prompt_without_instruction": ["q"]}, "prompt_without_instruction", "text or nothing", "['q']"),
    ({"instruction_id_list": "a"}, "instruction_id_list", "[text]", "'a'"),
    ({"instruction_id_list": [7]}, "instruction_id_list[0]", "text", "7"),
    ({"kwargs": {"n": 1}}, "kwargs", "[{name: text or a number or [text or a number] or nothing} or nothing]", "{'n': 1}"),
    ({"kwargs": None}, "kwargs", "[{name: text or a number or [text or a number] or nothing} or nothing]", "nothing"),
    ({"kwargs": [3]}, "kwargs[0]", "{name: text or a number or [text or a number] or nothing} or nothing", "3"),
    ({"kwargs": [{"n": {"m": 1}}]}, "kwargs[0].n", "text or a number or [text or a number] or nothing", "{'m': 1}"),
    ({"kwargs": [{"n": True}]}, "kwargs[0].n", "text or a number or [text or a number] or nothing", "True"),
    ({"kwargs": [{"words": ["a", None]}]}, "kwargs[0].words[1]", "text or a number", "nothing"),
])  # fmt: skip
def test_an_ifeval_value_of_another_type_is_refused_with_its_row(
    tmp_path: Path, change: dict[str, Any], place: str, expected: str, got: str
) -> None:
    for side in ("train", "test"):
        write_lines(tmp_path / f"{side}.jsonl", [line(f"{side} {i}?", "No commas.") for i in range(4)])
    rows = [line(f"test {i}?", "No commas.") for i in range(4)]
    path = write_lines(tmp_path / "test.jsonl", [*rows[:2], rows[2] | change, rows[3]])
    assert refusal("ifeval", tmp_path).endswith(f"({path}, row 3, {place}), expected {expected}, got {got}")


@pytest.mark.parametrize(("change", "place", "expected", "got"), [
    ({"input": None}, "input", "text", "nothing"),
    ({"output_concept": None}, "output_concept", "text", "nothing"),
    ({"concept_id": None}, "concept_id", "a whole number", "nothing"),
    ({"category": None}, "category", "text", "nothing"),
])  # fmt: skip
@pytest.mark.parametrize("side", ["train", "test"])
def test_an_axbench_row_without_a_value_is_refused(
    tmp_path: Path, side: str, change: dict[str, Any], place: str, expected: str, got: str
) -> None:
    write_concepts(tmp_path, {0: "the sea"})
    path = write_rows(
        tmp_path / f"{side}.parquet", [concept_row("a", "the sea", 0), concept_row("b", "the sea", 0, **change)]
    )
    assert refusal("axbench", tmp_path).endswith(f"({path}, row 2, {place}), expected {expected}, got {got}")


@pytest.mark.parametrize(("column", "value", "expected", "got"), [
    ("concept_id", "0", "a whole number", "'0'"), ("concept_id", 0.0, "a whole number", "0.0"),
    ("concept_id", False, "a whole number", "False"), ("input", 3, "text", "3"), ("output_concept", ["sea"], "text", "['sea']"),
    ("instruction", 3, "text or nothing", "3"),
])  # fmt: skip
def test_an_axbench_column_of_another_type_is_refused(
    tmp_path: Path, column: str, value: object, expected: str, got: str
) -> None:
    write_concepts(tmp_path, {0: "the sea"})
    rows = [concept_row(f"q{i}", "the sea", 0) | {column: value} for i in range(2)]
    path = write_rows(tmp_path / "train.parquet", rows)
    assert refusal("axbench", tmp_path).endswith(f"({path}, row 1, {column}), expected {expected}, got {got}")


def test_text_that_looks_like_a_date_stays_the_text_it_is(tmp_path: Path) -> None:
    write_persona(tmp_path)
    for side, days in (("extract", ["2024-01-01", "2024-01-02"]), ("eval", ["2024-02-01", "2024-02-02T10:00:00"])):
        (tmp_path / side / "loud.json").write_text(json.dumps(trait(days) | {"eval_prompt": "2024-03-01"}))
    (loud,) = load_attributes("persona", tmp_path, ["loud"])
    assert (loud.questions, loud.search, loud.evaluate) == (
        ("2024-01-01", "2024-01-02"),
        ("2024-02-01",),
        ("2024-02-02T10:00:00",),
    )
    assert loud.rubric == "2024-03-01"


def test_whole_numbers_among_an_instructions_arguments_stay_whole(tmp_path: Path) -> None:
    for side in ("train", "test"):
        write_lines(tmp_path / f"{side}.jsonl", [
            line(f"{side} {n} {i}?", "Few.", "length_constraints:number_words", relation="less than", num_words=n)
            for n in (3, 2.5) for i in range(4)])  # fmt: skip
    found = load_attributes("ifeval", tmp_path)
    assert [repr(dict(attribute.kwargs)["num_words"]) for attribute in found] == ["2.5", "3"]


@pytest.mark.parametrize(("text", "message"), [
    ('{"prompt": "a"}\n{"prompt"\n', "cannot be read.*line 2"),
    ('{"prompt": "a"\n{"prompt": "b"}\n', "cannot be read"),
    ("[1, 2]", "row 1.*expected an object, got 1"),
    ('{"prompt": "a", "instruction_id_list": ["b"], "kwargs": [{}]}\n{"prompt": "a"}', "lacks a column.*row 2.*no instruction_id"),
    ('{"prompt": "a", "instruction_id_list": ["b"], "kwargs": [{}]}\n{"prompt": "a", "instruction_id_list": [], "kwargs": [{}]}',
     "row 2.*lists of one length"),
    ("[]", "is empty"),
])  # fmt: skip
def test_lines_that_are_no_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    write_lines(tmp_path / "test.jsonl", [line("a", "b")])
    (tmp_path / "train.jsonl").write_text(text)
    said = refusal("ifeval", tmp_path)
    assert "train.jsonl" in said
    assert re.search(message, said)


def test_a_trait_of_several_objects_is_refused(tmp_path: Path) -> None:
    write_persona(tmp_path)
    (tmp_path / "eval/loud.json").write_text(json.dumps([trait(["a", "b"]), trait(["c", "d"])]))
    assert "expected one object, got 2 of them" in refusal("persona", tmp_path)


def test_a_persona_question_stands_on_one_side_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_persona(tmp_path)
    (tmp_path / "extract/loud.json").write_text(json.dumps(trait(["f1", "f2", " f1"])))
    (tmp_path / "eval/loud.json").write_text(json.dumps(trait(["e0", "e0", "f2\n", "e1", " e1 ", "e2", "e0"], "noisy")))
    (loud,) = load_attributes("persona", tmp_path, ["loud"])
    assert (loud.questions, loud.search, loud.evaluate) == (("f1", "f2"), ("e0", "e2"), ("e1",))
    assert caplog.messages == [
        f"persona ({tmp_path}): questions left out of 1 of 1 attributes: 4 that are there twice, 1 of search and evaluation "
        "that are for fitting"
    ]
    assert caplog.records[0].name == "psr"
    assert caplog.records[0].levelno == logging.WARNING


def test_an_instruction_is_told_once_and_not_held_out_too(tmp_path: Path) -> None:
    write_persona(tmp_path)
    for side, said in (("extract", ["Be loud.", "Be loud. ", "Shout."]), ("eval", [" Shout.", "Yell.", "Yell."])):
        pairs = [{"pos": text, "neg": "Be quiet."} for text in said]
        (tmp_path / side / "loud.json").write_text(
            json.dumps(trait([f"{side} {i}" for i in range(3)]) | {"instruction": pairs})
        )
    (loud,) = load_attributes("persona", tmp_path, ["loud"])
    assert (loud.instructions, loud.held_out) == (("Be loud.", "Shout."), ("Yell.",))


def test_an_ifeval_prompt_of_both_files_is_for_fitting_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lines(tmp_path / "train.jsonl", [line(question, "No commas.") for question in ("a?", "b?", "a?")])
    again = line("Split b?", "No commas.") | {"prompt": "b? No commas. "}  # the same prompt, split in another place
    write_lines(tmp_path / "test.jsonl", [*(line(q, "No commas!") for q in ("c?", "c?", " a? ", "d?")), again])
    (comma,) = load_attributes("ifeval", tmp_path)
    assert (comma.questions, comma.search, comma.evaluate) == (("a?", "b?"), ("c?",), ("d?",))
    assert "1 of 1 attributes: 2 that are there twice, 2 of search" in caplog.text


def test_an_ifeval_prompt_that_a_public_file_repeats_is_given_to_one_side(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [line(f"{question}?", "No commas.") for question in "abcd" for _ in range(2)]
    write_lines(tmp_path / "input_data.jsonl", rows)
    (comma,) = load_attributes("ifeval", tmp_path)
    assert (comma.questions, comma.search, comma.evaluate) == (("a?", "c?"), ("b?",), ("d?",))
    assert "4 that are there twice, 0 of search" in caplog.text


def test_an_axbench_input_stands_on_one_side_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for side, asked in (("train", ["f1", "f1", "f2 "]), ("test", ["f2", "e1", "e1\n", "e2", " f1", "e3"])):
        write_rows(tmp_path / f"{side}.parquet", [concept_row(question, "the sea", 0) for question in asked])
    (sea,) = load_attributes("axbench", tmp_path)
    assert (sea.questions, sea.search, sea.evaluate) == (("f1", "f2 "), ("e1", "e3"), ("e2",))
    assert "2 that are there twice, 2 of search" in caplog.text


def test_nothing_is_said_where_nothing_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_attributes("persona", write_persona(tmp_path))
    assert caplog.messages == []


def test_kept_and_left_out_questions_are_all_that_were_given() -> None:
    fitting, others = ["a", "a ", "b"], ["b", "c", "c", " c", "a", "d", "a"]
    sides = divide(fitting, others)
    assert sides == (("a", "b"), ("c",), ("d",), 3, 3)
    assert sum(map(len, sides[:3])) + sides.repeated + sides.fitted == len(fitting) + len(others)
    assert distinct(["x", " x", "y"], known=["y "]) == ("x",)


def test_arguments_that_differ_between_the_sides_are_not_one_attribute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`less than 3` for fitting and `less than 5` for the figures would be judged by the wrong one."""
    words = "length_constraints:number_sentences"
    both = [line(f"a {i}?", "Few.", words, relation="less than", num_sentences=3) for i in range(4)]
    one = [line(f"b {i}?", "Fewer.", words, relation="less than", num_sentences=5) for i in range(4)]
    new = [line(f"c {i}?", "Few.", words, relation="less than", num_sentences=3) for i in range(4)]
    write_lines(tmp_path / "train.jsonl", both)
    write_lines(tmp_path / "test.jsonl", [*one, *new])
    (found,) = load_attributes("ifeval", tmp_path)
    assert dict(found.kwargs)["num_sentences"] == 3
    assert all(question.startswith("c") for question in (*found.search, *found.evaluate))
    assert "1 instructions make no attribute" in caplog.text


def test_files_without_any_attribute_are_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [line("a?", "Few.")])
    write_lines(tmp_path / "test.jsonl", [line("b?", "Few.", "punctuation:other")])
    assert "hold no attribute" in refusal("ifeval", tmp_path)
