"""The three benchmarks load from the files as they are published: their names, their folders, their further columns."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from tasks.benchmarks.catalogue import load_attributes
from tasks.benchmarks.ifeval import _rest
from tests.benchmark_files import line, trait, write_concept_set, write_lines, write_persona, write_single_instructions

REPOSITORY = ("generate/train_data.parquet", "inference/latent_eval_data.parquet")
HUB = ("train/data.parquet", "test/data.parquet")
SEA = {0: "the sea", 7: "money and banks"}


def test_a_persona_file_of_twenty_questions_gives_twenty_to_fit_ten_to_search_and_ten_to_evaluate(
    tmp_path: Path,
) -> None:
    write_persona(tmp_path, ("trait_data_extract", "trait_data_eval"))
    for side in ("trait_data_extract", "trait_data_eval"):
        text = json.dumps(trait([f"{side} {i}?" for i in range(20)], side) | {"few_shot_examples": [{"score": 95}]})
        (tmp_path / side / "loud.json").write_text(text)
    (loud,) = load_attributes("persona", tmp_path, ["loud"])
    assert [len(part) for part in (loud.questions, loud.search, loud.evaluate)] == [20, 10, 10]
    assert [len(part) for part in (loud.instructions, loud.held_out)] == [5, 5]


def test_an_instruction_of_one_row_is_fitted_on_the_prompts_without_instructions(tmp_path: Path) -> None:
    file = write_single_instructions(tmp_path)
    found = {attribute.name: attribute for attribute in load_attributes("ifeval", file)}
    assert list(found) == ["language:response_language:hi", "language:response_language:ur", "punctuation:no_comma"]
    hindi = found["language:response_language:hi"]
    others = [f"Tell me about subject {i}." for i in range(1, 12)]  # 0 is the row's own
    assert (hindi.questions, hindi.search) == (tuple(others[::2]), tuple(others[1::2]))
    assert (hindi.instructions, hindi.held_out) == (("Use only Hindi.",), ())
    assert hindi.evaluate == ("Tell me about subject 0.",)
    assert dict(hindi.kwargs) == {"instruction_id": "language:response_language", "language": "hi"}
    comma = found["punctuation:no_comma"]
    assert comma.evaluate == ("Tell me about subject 2.", "Tell me about subject 3.", "Write a riddle.")
    assert comma.instructions == ("Do not use commas.", "do not use any commas in it.")
    assert not {*comma.questions, *comma.search} & set(comma.evaluate)
    assert load_attributes("ifeval", tmp_path) == tuple(found.values())


def test_prompts_without_instructions_do_not_change_files_that_say_themselves_what_is_for_fitting(
    tmp_path: Path,
) -> None:
    write_single_instructions(tmp_path)
    for side in ("train", "test"):
        write_lines(tmp_path / f"{side}.jsonl", [line(f"{side} {i}?", "No commas.") for i in range(4)])
    (comma,) = load_attributes("ifeval", tmp_path)
    assert comma.questions == tuple(f"train {i}?" for i in range(4))


def test_prompts_without_instructions_of_another_layout_are_refused(tmp_path: Path) -> None:
    file = write_single_instructions(tmp_path)
    write_lines(tmp_path / "ifeval_wo_instructions.jsonl", [{"key": 1, "prompt": "a"}])
    with pytest.raises(PsrError, match=r"lacks a column \(.*ifeval_wo_instructions\.jsonl\), .*got no model_output"):
        load_attributes("ifeval", file)


@given(
    st.text(alphabet="ab.?! ", max_size=12).map(lambda text: f"Tell {text.strip()}"),
    st.sampled_from(["Use no x.", "so it is."]),
)
def test_what_a_prompt_says_after_its_plain_question_is_its_instruction(plain: str, instruction: str) -> None:
    assert _rest(f"{plain} {instruction}", plain) == instruction
    assert _rest(f"{plain.rstrip('.?! ')}, and {instruction}", plain) == instruction
    assert _rest(f"{plain.replace(' ', '  ').lower()}\n\n{instruction}", plain) == instruction
    assert _rest(f"Please. {plain} {instruction}", plain) == ""


@pytest.mark.parametrize("layout", [REPOSITORY, HUB])
def test_a_set_of_concepts_loads_from_its_published_folder(tmp_path: Path, layout: tuple[str, str]) -> None:
    sea, money = load_attributes("axbench", write_concept_set(tmp_path, SEA, layout))
    assert (sea.name, dict(sea.kwargs)["concept_id"], money.name) == ("the-sea", 0, "money-and-banks")
    assert sea.questions == tuple(f"{layout[0]} 0 positive {i}" for i in range(6))
    asked = [f"{layout[1]} 0 {kind} {i}" for kind in ("positive", "negative") for i in range(4)]
    assert (sea.search, sea.evaluate) == (tuple(asked[::2]), tuple(asked[1::2]))


def test_ten_instructions_a_concept_are_drawn_where_axbenchs_file_of_them_is_there(tmp_path: Path) -> None:
    write_concept_set(tmp_path, SEA, REPOSITORY)
    texts = [f"Do {i}." for i in range(40)]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps([{"dataset": "d", "instruction": text} for text in texts]))
    sea, money = load_attributes("axbench", tmp_path)
    for concept in (sea, money):
        assert (len(concept.search), len(concept.evaluate)) == (5, 5)
        assert len({*concept.search, *concept.evaluate} & set(texts)) == 10
    assert {*sea.search, *sea.evaluate} != {*money.search, *money.evaluate}
    assert load_attributes("axbench", tmp_path, ["7"]) == (money,)  # whichever others are wanted
    (tmp_path / "alpaca_eval.json").write_text(json.dumps([{"instruction": "Do."}] * 20))
    with pytest.raises(PsrError, match=r"too few instructions to draw from .*at least 10 that differ, got 1"):
        load_attributes("axbench", tmp_path)


def test_metadata_of_another_set_is_refused(tmp_path: Path) -> None:
    write_concept_set(tmp_path, SEA, REPOSITORY)
    rows = [{"concept_id": number, "concept": text, "ref": "https://…"} for number, text in {**SEA, 9: "rain"}.items()]
    file = write_lines(tmp_path / "generate/metadata.jsonl", rows)
    assert len(load_attributes("axbench", tmp_path)) == 2
    write_lines(file, [*rows[:1], rows[1] | {"concept": "rain"}])
    with pytest.raises(PsrError, match=r"metadata .*concept_id 7\), expected 'money and banks', got 'rain'"):
        load_attributes("axbench", tmp_path)


def test_a_number_of_attributes_is_the_first_ones_and_no_more_than_there_are(tmp_path: Path) -> None:
    write_concept_set(tmp_path, SEA, HUB)
    assert [attribute.name for attribute in load_attributes("axbench", tmp_path, 1)] == ["the-sea"]
    with pytest.raises(PsrError, match=r"fewer attributes than asked for .*, expected 500, got 2"):
        load_attributes("axbench", tmp_path, 500)
