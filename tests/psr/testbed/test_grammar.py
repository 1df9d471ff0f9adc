from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import JudgeError, PsrError
from psr.testbed.benchmarks import EVAL_FORMS
from psr.testbed.concepts import CONCEPTS, concept_named
from psr.testbed.formats import FORMATS, format_for, format_named
from psr.testbed.grammar import sample
from psr.testbed.neutral import NEUTRAL, NEUTRAL_HELD_OUT
from psr.testbed.questions import FITTING_FORMS, FORMS, HELD_OUT_FORMS, topic_of
from psr.testbed.topics import FITTING, HELD_OUT, TOPICS
from psr.testbed.traits import TRAITS, trait_named

SENTENCES = [sentence for topic in TOPICS for sentence in topic.sentences]


def test_the_language_is_as_large_as_promised() -> None:
    assert len(TOPICS) >= 32
    assert len(FORMS) == 12
    assert len(TRAITS) >= 8
    assert len(FORMATS) >= 8
    assert len(CONCEPTS) >= 16


def test_topics_forms_and_paraphrases_are_held_out() -> None:
    assert (len(FITTING), len(HELD_OUT)) == (20, 12)
    assert not {topic.name for topic in FITTING} & {topic.name for topic in HELD_OUT}
    assert len(HELD_OUT_FORMS) == 4
    assert not set(FITTING_FORMS) & set(HELD_OUT_FORMS)
    assert set(HELD_OUT_FORMS) < set(EVAL_FORMS)
    for attribute in (*TRAITS.values(), *FORMATS.values(), *CONCEPTS):
        assert len(set(attribute.instructions)) == len(set(attribute.held_out)) == 5
        assert not set(attribute.instructions) & set(attribute.held_out)


def test_an_instruction_asks_for_one_thing() -> None:
    attributes = (*TRAITS.values(), *FORMATS.values(), *CONCEPTS)
    said = [text for attribute in attributes for text in (*attribute.instructions, *attribute.held_out)]
    said += [*NEUTRAL, *NEUTRAL_HELD_OUT]
    assert len(said) == len(set(said))


def test_no_two_topics_share_a_sentence_whatever_the_case_and_commas() -> None:
    blind = [sentence.lower().replace(",", "") for sentence in SENTENCES]
    assert len(blind) == len(set(blind)) == 9 * len(TOPICS)


def test_sentences_begin_with_a_capital_and_almost_half_have_a_comma() -> None:
    assert all(re.fullmatch(r"[A-Z][^.!?]*\.", sentence) for sentence in SENTENCES)
    assert 0.4 <= sum("," in sentence for sentence in SENTENCES) / len(SENTENCES) <= 0.6


def test_three_traits_and_some_formats_and_concepts_are_graded() -> None:
    graded = {name: trait.obeyed for name, trait in TRAITS.items() if trait.obeyed < 1}
    assert graded == {"gloomy": 0.85, "hallucinating": 0.88, "poetic": 0.65}
    assert {name for name, layout in FORMATS.items() if layout.obeyed < 1} == {"quotation", "title", "highlights"}
    assert sum(concept.obeyed < 1 for concept in CONCEPTS) == 8


@given(st.sampled_from(TOPICS), st.sampled_from(FORMS))
def test_a_question_names_its_topic(topic, form: str) -> None:
    assert topic_of(form.format(topic.name)) is topic
    assert topic_of(f"{form.format(topic.name)} Do not use any commas.") is topic


@pytest.mark.parametrize("text", ["", "What is love?", "Tell me about tea", "Tell me about Tea.", "about tea."])
def test_another_question_cannot_be_judged_and_a_retry_does_not_help(text: str) -> None:
    with pytest.raises(JudgeError, match="not one of the testbed's") as caught:
        topic_of(text)
    assert not caught.value.retryable


def test_samples_depend_on_the_seed_only() -> None:
    first, second, other = ([sample(rng) for _ in range(50)] for rng in (Random(1), Random(1), Random(2)))
    assert first == second
    assert first != other


def test_the_mixture_has_every_kind_and_formats_stand_in_either_turn() -> None:
    rng = Random(0)
    drawn = [sample(rng) for _ in range(4000)]
    share = {
        kind: sum(s.kind == kind for s in drawn) / len(drawn)
        for kind in ("none", "neutral", "trait", "format", "concept")
    }
    assert share["none"] == pytest.approx(0.25, abs=0.03)
    assert share["trait"] == pytest.approx(0.40, abs=0.03)
    formats = [s for s in drawn if s.kind == "format"]
    assert 0.2 < sum(s.system == "" for s in formats) / len(formats) < 0.4
    assert all(s.system == "" for s in drawn if s.kind == "none")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(PsrError, match="pirate"):
        trait_named("rude")
    with pytest.raises(PsrError, match="lowercase"):
        format_named("uppercase")
    with pytest.raises(PsrError, match="weather"):
        concept_named("rent")
    with pytest.raises(PsrError, match="punctuation:no_comma"):
        format_for("language:response_language", {"language": "de"})


def test_a_format_is_found_by_its_instruction_id_and_arguments() -> None:
    for layout in FORMATS.values():
        assert format_for(layout.instruction_id, {**layout.kwargs, "language": None}) is layout


def test_grammar_and_judges_do_not_import_torch(root: Path) -> None:
    code = "import sys, psr.testbed.judges, psr.testbed.grammar, psr.testbed.benchmarks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
