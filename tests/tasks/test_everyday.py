"""The project's own questions and instructions: how many, each once, on one side only, and readable as the formats say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from psr.answers.questions import everyday_questions
from psr.judges.traits import TRAITS, rate_trait
from psr.types import Attribute
from tasks.benchmarks.catalogue import load_attributes

ROOT = Path(__file__).resolve().parents[2]
EVERYDAY = ROOT / "data/everyday"
ATTRIBUTES = {b: load_attributes(b, EVERYDAY / b) for b in ("persona", "ifeval")}
ALL = [attribute for found in ATTRIBUTES.values() for attribute in found]


def normal(text: str) -> str:
    """A question without case and punctuation: two that differ in these alone are one question."""
    return " ".join(re.findall(r"\w+", text.lower()))


def test_there_are_seven_traits_and_six_formats() -> None:
    assert [len(ATTRIBUTES[b]) for b in ("persona", "ifeval")] == [7, 6]


@pytest.mark.parametrize("attribute", ALL, ids=lambda a: a.key)
def test_each_has_its_instructions_and_its_questions_each_once(attribute: Attribute) -> None:
    counts = [len(getattr(attribute, side)) for side in ("instructions", "held_out", "questions", "search", "evaluate")]
    assert counts == [5, 3, 20, 30, 30]
    asked = Counter(map(normal, (*attribute.questions, *attribute.search, *attribute.evaluate)))
    said = Counter(map(normal, (*attribute.instructions, *attribute.held_out)))
    assert max(asked.values()) == max(said.values()) == 1


def test_all_share_their_questions_on_the_same_sides() -> None:
    assert len({(a.questions, a.search, a.evaluate) for a in ALL}) == 1


def test_no_instruction_is_anothers() -> None:
    said = Counter(normal(text) for a in ALL for text in (*a.instructions, *a.held_out))
    assert max(said.values()) == 1


def test_no_question_shows_a_trait_by_itself() -> None:
    asked = [text for side in ("questions", "search", "evaluate") for text in getattr(ALL[0], side)]
    assert {(trait, text) for trait in TRAITS for text in asked if rate_trait(trait, text)} == set()


def test_nothing_is_left_out_by_the_loaders(caplog: pytest.LogCaptureFixture) -> None:
    for benchmark in ATTRIBUTES:
        load_attributes(benchmark, EVERYDAY / benchmark)
    assert caplog.text == ""


def test_the_files_have_every_field_of_their_formats() -> None:
    for path in EVERYDAY.glob("persona/*/*.json"):
        trait = json.loads(path.read_text(encoding="utf-8"))
        assert len(trait["instruction"]) == (5 if path.parent.name == "extract" else 3)
        assert all(pair["pos"].strip() and pair["neg"].strip() for pair in trait["instruction"])
        assert all(trait["eval_prompt"].count(field) == 1 for field in ("{question}", "{answer}"))
        assert path.read_text(encoding="utf-8").count("\n    ") == len(trait["instruction"]) + len(trait["questions"])
    rows = [json.loads(line) for side in ("train", "test") for line in (EVERYDAY / f"ifeval/{side}.jsonl").open()]
    assert [len({row["key"] for row in rows}), len(rows)] == [6 * 80, 6 * 80]
    assert all(row["prompt"].startswith(row["prompt_without_instruction"] + " ") for row in rows)


def test_the_questions_that_ship_with_the_library() -> None:
    questions = everyday_questions()
    assert [len(side) for side in questions] == [60, 30, 30]
    asked = Counter(normal(text) for side in questions for text in side)
    assert max(asked.values()) == 1
    assert not asked.keys() & {normal(text) for a in ALL for text in (*a.questions, *a.search, *a.evaluate)}


def test_every_question_reads_as_one() -> None:
    texts = [text for side in everyday_questions() for text in side] + [
        *ALL[0].questions,
        *ALL[0].search,
        *ALL[0].evaluate,
    ]
    assert len(texts) == 200
    assert [text for text in texts if text != text.strip() or not 10 <= len(text) <= 90 or text[-1] not in "?."] == []
