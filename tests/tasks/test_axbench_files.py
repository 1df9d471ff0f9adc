"""AxBench starts another file every 500 concepts: all of a set are read, in turn, and no two sets are mixed."""

import re
from pathlib import Path

import grimp
import pytest

from psr.errors import PsrError
from tasks.benchmarks.catalogue import load_attributes
from tests.benchmark_files import concept_row, write_rows

ROOT = Path(__file__).resolve().parents[2]
TRAIN, EVALUATION = "train_data", "latent_eval_data"


def name(first: str, number: int) -> str:
    return f"{first}_{number}.parquet" if number else f"{first}.parquet"


def write_side(folder: Path, first: str, files: dict[int, dict[int, str]]) -> None:
    """files: number of the file -> its concepts."""
    for number, concepts in files.items():
        rows = [
            concept_row(f"{first} {number} {i}", text, concept) for concept, text in concepts.items() for i in range(4)
        ]
        write_rows(folder / name(first, number), rows)


def write_set(
    folder: Path, train: dict[int, dict[int, str]], evaluation: dict[int, dict[int, str]], prefix: str = ""
) -> Path:
    write_side(folder, prefix + TRAIN, train)
    write_side(folder, prefix + EVALUATION, evaluation)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(PsrError) as error:
        load_attributes("axbench", folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("prefix", ["", "concept500_2b_l20_"])
def test_the_concepts_of_every_file_are_read(tmp_path: Path, prefix: str) -> None:
    files = {0: {0: "the sea", 499: "money"}, 1: {500: "the law"}, 2: {1000: "the weather"}}
    found = load_attributes("axbench", write_set(tmp_path, files, files, prefix))
    assert [attribute.name for attribute in found] == ["the-sea", "money", "the-law", "the-weather"]
    assert found[2].questions == tuple(f"{prefix}train_data 1 {i}" for i in range(4))
    assert found[3].search == (f"{prefix}latent_eval_data 2 0", f"{prefix}latent_eval_data 2 2")


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    files = {number: {0: "the sea"} for number in range(12)}
    (sea,) = load_attributes("axbench", write_set(tmp_path, files, files))
    assert [question.split()[1] for question in sea.questions[::4]] == [str(number) for number in range(12)]
    assert [question.split()[1] for question in sea.search[::2]] == [str(number) for number in range(12)]


def test_the_evaluation_files_of_our_own_names_are_read_too(tmp_path: Path) -> None:
    for first in ("train", "test"):
        write_side(tmp_path, first, {0: {0: "the sea"}, 1: {500: "the law"}})
    assert [attribute.name for attribute in load_attributes("axbench", tmp_path)] == ["the-sea", "the-law"]


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_is_missing_among_the_numbered_ones_is_refused(tmp_path: Path, side: int) -> None:
    whole = {number: {number * 500: f"concept {number}"} for number in range(3)}
    sides = [dict(whole), dict(whole)]
    del sides[side][1]
    said = refusal(write_set(tmp_path, *sides))
    first = (TRAIN, EVALUATION)[side]
    assert f"not numbered in turn ({tmp_path})" in said
    assert f"got {first}.parquet, {first}_2.parquet" in said


def test_the_first_file_may_not_be_missing_nor_be_there_twice(tmp_path: Path) -> None:
    write_set(tmp_path / "missing", {1: {500: "the law"}}, {0: {500: "the law"}})
    assert "not numbered in turn" in refusal(tmp_path / "missing")
    write_set(tmp_path / "twice", {0: {0: "the sea"}}, {0: {0: "the sea"}})
    write_rows(tmp_path / "twice/train_data_0.parquet", [concept_row("q", "the sea", 0)])
    assert "not numbered in turn" in refusal(tmp_path / "twice")


@pytest.mark.parametrize("others", [
    ["concept10_2b_train_data"], ["concept10_2b_train_data", "concept10_2b_latent_eval_data"], ["concept10_2b_latent_eval_data"],
    ["train"], ["test"],
])  # fmt: skip
def test_two_sets_in_one_folder_are_refused(tmp_path: Path, others: list[str]) -> None:
    write_set(tmp_path, {0: {0: "the sea"}}, {0: {0: "the sea"}})
    for first in others:
        write_side(tmp_path, first, {0: {0: "the sea"}})
    said = refusal(tmp_path)
    assert "several sets of files in one folder" in said
    assert all(f"{first}.parquet" in said for first in others)


def test_training_files_of_one_set_are_not_evaluated_on_files_of_another(tmp_path: Path) -> None:
    write_side(tmp_path, "concept10_train_data", {0: {0: "the sea"}})
    write_side(tmp_path, "concept500_latent_eval_data", {0: {0: "the sea"}})
    assert "got concept10_train_data.parquet, concept500_latent_eval_data.parquet" in refusal(tmp_path)


@pytest.mark.parametrize(("train", "evaluation", "places"), [
    ({0: {0: "the sea"}, 1: {0: "the law"}}, {0: {0: "the sea"}}, ("train_data_1.parquet", "train_data.parquet")),
    ({0: {0: "the sea"}}, {0: {0: "the law"}}, ("latent_eval_data.parquet", "train_data.parquet")),
    ({0: {0: "the sea"}}, {0: {0: "the sea", 9: "a"}, 1: {9: "b"}}, ("latent_eval_data_1.parquet", "latent_eval_data.parquet")),
])  # fmt: skip
def test_a_number_that_means_two_concepts_is_refused(
    tmp_path: Path, train: dict[int, dict[int, str]], evaluation: dict[int, dict[int, str]], places: tuple[str, str]
) -> None:
    said = refusal(write_set(tmp_path, train, evaluation))
    assert "number means two concepts" in said
    assert re.search(rf"\({tmp_path}/{places[0]}, concept_id \d\), expected '.*' as in {places[1]}, got '", said)


def test_rows_that_are_not_of_the_concept_do_not_say_what_its_number_means(tmp_path: Path) -> None:
    """AxBench gives the hard negatives of a concept its number and the words of another."""
    write_set(tmp_path, {0: {0: "the sea"}}, {0: {0: "the sea"}})
    rows = [concept_row(f"e{i}", "the sea", 0) for i in range(2)]
    rows += [
        concept_row("n", "EEEEE", 0, category="negative"),
        concept_row("h", "see//to look", 0, category="hard negative"),
    ]
    write_rows(tmp_path / "latent_eval_data.parquet", rows)
    (sea,) = load_attributes("axbench", tmp_path)
    assert (sea.name, sea.search, sea.evaluate) == ("the-sea", ("e0", "n"), ("e1", "h"))


def test_files_without_a_concept_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {0: {0: "the sea"}}, {0: {0: "the sea"}})
    write_rows(tmp_path / "train_data.parquet", [concept_row("q", "EEEEE", -1, category="negative")])
    assert "holds no concept" in refusal(tmp_path)


def test_no_loader_of_public_files_needs_the_testbed() -> None:
    imported = grimp.build_graph("psr", "tasks", cache_dir=None).find_upstream_modules("tasks.benchmarks.catalogue")
    assert not [module for module in imported if module.startswith("psr.testbed")]


def test_the_testbeds_concepts_are_asked_for_in_the_words_that_its_model_has_learned() -> None:
    from psr.testbed.concepts import CONCEPTS

    found = {attribute.rubric: attribute for attribute in load_attributes("axbench", ROOT / "data/testbed/axbench")}
    for concept in CONCEPTS:
        attribute = found[concept.description]
        assert (attribute.instructions, attribute.held_out) == (concept.instructions, concept.held_out)
