"""Benchmarks in the public formats: who is asked what, what is held out, and clear words for files that do not fit."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from psr.errors import PsrError
from psr.fitting.presets import package
from psr.types import Attribute
from tasks.benchmarks.catalogue import BENCHMARKS, benchmark_named, load_attributes
from tests.benchmark_files import line, trait, write_concepts, write_lines, write_persona


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No loader may so much as look up a name; a library that hides the refusal is found out all the same."""
    attempts: list[object] = []

    def refuse(*args: object, **kwargs: object) -> None:
        attempts.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert attempts == []


@pytest.mark.parametrize("sides", [("extract", "eval"), ("trait_data_extract", "trait_data_eval")])
def test_persona_files_become_attributes(tmp_path: Path, sides: tuple[str, str]) -> None:
    loud, shy = load_attributes("persona", write_persona(tmp_path, sides))
    assert (loud.key, shy.key) == ("persona/loud", "persona/shy")
    assert loud.instructions == tuple(f"Be loud, way {i}." for i in range(5))
    assert loud.held_out == tuple(f"Be noisy, way {i}." for i in range(5))
    assert (loud.questions, loud.search, loud.evaluate) == (("f1", "f2", "f3"), ("e0", "e2", "e4"), ("e1", "e3"))
    assert loud.rubric == "Rate {answer} to {question}."


def test_names_choose_and_order_the_attributes_with_or_without_their_benchmark(tmp_path: Path) -> None:
    found = load_attributes("persona", write_persona(tmp_path), ["shy", "persona/loud"])
    assert [attribute.name for attribute in found] == ["shy", "loud"]


def test_a_question_that_was_fitted_on_is_never_evaluated_on(tmp_path: Path) -> None:
    write_persona(tmp_path)
    (tmp_path / "eval/loud.json").write_text(json.dumps(trait(["f1", "e1", "e2", "f3"])))
    (attribute,) = load_attributes("persona", tmp_path, ["loud"])
    assert (attribute.search, attribute.evaluate) == (("e1",), ("e2",))
    assert attribute.held_out == ()


def test_ifeval_rows_become_an_attribute_per_instruction_and_arguments(tmp_path: Path) -> None:
    for side in ("train", "test"):
        write_lines(tmp_path / f"{side}.jsonl", [
            *(line(f"{side} {i}?", f"No commas, {side}!") for i in range(4)),
            *(line(f"{side} {i}?", f"Few, {side}.", "length_constraints:number_sentences", relation="less than", num_sentences=3)
              for i in range(4)),
            *(line(f"{side} {i}?", "Many.", "length_constraints:number_sentences", relation="at least", num_sentences=6)
              for i in range(4)),
        ])  # fmt: skip
    few = "length_constraints:number_sentences:less-than-3"
    found = load_attributes("ifeval", tmp_path)
    assert [a.name for a in found] == [few.replace("less-than-3", "at-least-6"), few, "punctuation:no_comma"]
    comma = found[2]
    assert (comma.instructions, comma.held_out) == (("No commas, train!",), ("No commas, test!",))
    assert comma.questions == tuple(f"train {i}?" for i in range(4))
    assert (comma.search, comma.evaluate) == (("test 0?", "test 2?"), ("test 1?", "test 3?"))
    assert dict(found[1].kwargs) == {
        "instruction_id": "length_constraints:number_sentences",
        "relation": "less than",
        "num_sentences": 3,
    }
    assert found[0].held_out == ()


def test_a_public_ifeval_file_without_plain_prompts_is_split_at_the_sentence_that_instructs(tmp_path: Path) -> None:
    rows = [line(f"Tell me about ice {i}. Be brief.", f"Use no commas ({i}). Really.") for i in range(4)]
    rows += [
        line("Write without commas about tea.", "Thanks."),
        line("Two things.", "No commas, 3 bullets.") | {"instruction_id_list": ["a", "b"], "kwargs": [{}, {}]},
    ]
    for row in rows:
        del row["prompt_without_instruction"]
    write_lines(tmp_path / "input_data.jsonl", rows)
    (found,) = load_attributes("ifeval", tmp_path)
    assert found.questions == ("Tell me about ice 0. Be brief.", "Tell me about ice 2. Be brief.")
    assert found.instructions == ("Use no commas (0). Really.", "Use no commas (2). Really.")
    assert (found.search, found.evaluate) == (("Tell me about ice 1. Be brief.",), ("Tell me about ice 3. Be brief.",))


def test_axbench_rows_become_an_attribute_per_concept(tmp_path: Path) -> None:
    folder = write_concepts(tmp_path, {0: "references to the sea, and waves", 1: "names of colours."})
    sea, colours = load_attributes("axbench", folder)
    assert (sea.name, colours.name) == ("references-to-the-sea-and-waves", "names-of-colours")
    assert all("references to the sea, and waves" in text for text in (*sea.instructions, *sea.held_out))
    assert not set(sea.instructions) & set(sea.held_out)
    assert not any(".." in text or ". into" in text for text in colours.instructions)
    assert (sea.questions, sea.search, sea.evaluate) == (
        ("train 0", "train 1", "train 2"),
        ("test 0", "test 2"),
        ("test 1", "test 3"),
    )
    assert dict(sea.kwargs)["concept"] == "references to the sea, and waves"
    for name in ("1", "names of colours.", "names-of-colours", "axbench/names-of-colours"):
        assert load_attributes("axbench", folder, [name]) == (colours,)


def test_axbench_takes_the_instructions_of_a_file_that_has_them(tmp_path: Path) -> None:
    (found,) = load_attributes("axbench", write_concepts(tmp_path, {0: "the sea"}, instruction="Mention the sea."))
    assert (found.instructions, found.held_out) == (("Mention the sea.",), ())


def test_attributes_can_be_keys(tmp_path: Path) -> None:
    for side in ("train", "test"):
        write_lines(
            tmp_path / f"{side}.jsonl",
            [line(f"{side} {i}?", "Say tea.", "keywords:existence", keywords=["tea"]) for i in range(4)],
        )
    (found,) = load_attributes("ifeval", tmp_path)
    assert len({found, Attribute(**{**found.__dict__})}) == 1


def test_the_users_progress_bars_are_left_as_they_were(tmp_path: Path) -> None:
    shown = datasets.is_progress_bar_enabled()
    load_attributes("axbench", write_concepts(tmp_path, {0: "the sea"}))
    assert datasets.is_progress_bar_enabled() == shown


def test_a_cache_folder_is_used_when_given(tmp_path: Path) -> None:
    load_attributes("axbench", write_concepts(tmp_path / "files", {0: "the sea"}), cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.arrow"))


def test_the_unknown_is_refused_and_the_known_listed(tmp_path: Path) -> None:
    write_persona(tmp_path / "persona")
    write_concepts(tmp_path / "axbench", {0: "the sea"})
    for side in ("train", "test"):
        write_lines(tmp_path / f"ifeval/{side}.jsonl", [line(f"{side} {i}", "No commas.") for i in range(4)])
    for benchmark, known in (("persona", "loud, shy"), ("axbench", "the-sea"), ("ifeval", "punctuation:no_comma")):
        with pytest.raises(PsrError, match=rf"unknown attribute .*one of {known}, got 'evil'"):
            load_attributes(benchmark, tmp_path / benchmark, ["evil"])
    with pytest.raises(
        PsrError,
        match=r"unknown benchmark, expected one of ifeval, persona, axbench, or a dotted path such as my_lab\.benchmarks:Mine",
    ):
        load_attributes("glue", tmp_path)
    with pytest.raises(PsrError, match="folder is missing"):
        load_attributes("persona", tmp_path / "nowhere")


@pytest.mark.parametrize(("benchmark", "name", "content", "message"), [
    ("persona", "extract/loud.json", '{"instruction": [], "questions": []}', "lacks a column.*no eval_prompt"),
    ("persona", "extract/loud.json", '{"instruction": ["a"], "questions": ["b"], "eval_prompt": "c"}', "another layout"),
    ("persona", "extract/loud.json", '{"instruction": [{"pos": 1}], "questions"', "cannot be read"),
    ("persona", "extract/loud.json", "", "cannot be read"),
    ("persona", "eval/loud.json", json.dumps(trait(["f1", "f2"])), "too few questions"),
    ("ifeval", "train.jsonl", '{"prompt": "a", "kwargs": []}', "lacks a column.*no instruction_id_list"),
    ("ifeval", "train.jsonl", '{"prompt": "a", "instruction_id_list": ["b"], "kwargs": []}', "another layout"),
    ("axbench", "train.parquet", "PAR1", "cannot be read"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_named(
    tmp_path: Path, benchmark: str, name: str, content: str, message: str
) -> None:
    write_persona(tmp_path)
    write_concepts(tmp_path, {0: "the sea"})
    write_lines(tmp_path / "test.jsonl", [line("a", "b")])
    (tmp_path / name).write_text(content)
    with pytest.raises(PsrError, match=message) as error:
        load_attributes(benchmark, tmp_path)
    assert name.split("/")[-1] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_side_is_named(tmp_path: Path) -> None:
    write_persona(tmp_path / "persona", ("extract", "elsewhere"))
    write_lines(tmp_path / "ifeval/train.jsonl", [line("a", "b")])
    write_concepts(tmp_path / "axbench", {0: "the sea"})
    (tmp_path / "axbench/test.parquet").unlink()
    for benchmark, message in (("persona", "folder eval or"), ("ifeval", "test.jsonl"), ("axbench", "test.parquet")):
        with pytest.raises(PsrError, match=message):
            load_attributes(benchmark, tmp_path / benchmark)


def test_a_benchmarks_fit_package_is_the_librarys():
    """Written twice, so that the step which reads benchmarks depends on no code of fitting."""
    for name in BENCHMARKS:
        assert dict(benchmark_named(name).package) == package(name)
