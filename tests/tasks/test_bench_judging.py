"""The bench's figures of judging: what is read, and that the forwards it is measured against are those that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import psr
from psr.errors import PsrError
from psr.types import PromptPair, Triplet
from tasks.studies.bench import judging
from tasks.studies.bench.material import Material
from tests.results_folder import answer, write_results

ROOT = Path(__file__).resolve().parents[2]
WORDINGS = ("Talk like a pirate.", "Be a pirate.")


@pytest.fixture
def material(tmp_path: Path) -> Material:
    lm = psr.load_model(ROOT / "data/testbed/model")
    pairs = [PromptPair("persona/pirate", "What is rain?", wording) for wording in WORDINGS]
    triplets = [Triplet(pair, answer(pair, "instructed", 0.0, "Rain."), 1.0, 1.0) for pair in pairs]
    return Material(write_results(tmp_path), lm, {"persona/pirate": triplets}, {}, repeats=2)


def test_each_prompt_once_and_each_answer_once_or_each_answer_behind_its_prompt(material, monkeypatch):
    calls, read = [], []
    real = judging.read_answers
    monkeypatch.setattr(judging, "forwards", lambda lm, sequences, kept: calls.append(sequences))
    monkeypatch.setattr(judging, "read_answers", lambda *given: read.append(given) or real(*given))
    figures = {figure.name: figure for figure in judging.likelihood_judging(material)}
    assert list(figures) == ["judge", "judge-shared"]
    assert all(figure.ratio.n == 2 for figure in figures.values())
    _, wordings, items = read[0]
    assert tuple(wordings) == WORDINGS
    questions, behind = {item.question for item in items}, len(items) * (1 + len(WORDINGS))
    assert len(questions) == 2
    assert len(items) > len(questions), "answers share their question"
    prompts, answers, whole = calls[:3]
    assert len(set(prompts)) == len(prompts) == len(questions) * (1 + len(WORDINGS))
    assert len(answers) == len(whole) == behind
    assert {ids[len(prompt) :] for prompt in prompts for ids in whole if ids[: len(prompt)] == prompt} == set(answers)


def test_an_attribute_whose_strength_was_not_searched_is_passed_over(material):
    triplets = {"ifeval/none": material.triplets["persona/pirate"], **material.triplets}
    assert {item.attribute for item in judging.answers(replace(material, triplets=triplets))} == {"persona/pirate"}


def test_a_search_without_answers_to_the_attribute_is_refused(material):
    with pytest.raises(PsrError, match="the bench needs answers"):
        judging.answers(replace(material, triplets={"persona/none": material.triplets["persona/pirate"]}))


def test_the_forwards_run_the_head_over_the_last_tokens_alone(material):
    head, seen = material.lm.model.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[:2])))
    try:
        judging.forwards(material.lm, [(5, 6, 7), (5, 6, 7, 8, 9)], 2)
    finally:
        handle.remove()
    assert seen == [(2, 2)]
