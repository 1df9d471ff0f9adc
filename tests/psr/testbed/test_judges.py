from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import JudgeError, PsrError
from psr.judges.judging import judge_all
from psr.testbed.concepts import CONCEPTS, Concept
from psr.testbed.decorations import decorate
from psr.testbed.formats import FORMATS, Format
from psr.testbed.grammar import decorated, plain_answer
from psr.testbed.judges import TestbedJudge
from psr.testbed.topics import TOPICS, Topic
from psr.testbed.traits import TRAITS, Trait
from psr.types import Attribute, JudgeItem

seeds = st.integers(0, 2**32)
topics = st.sampled_from(TOPICS)
flags = st.lists(st.booleans(), min_size=1, max_size=9)


def asked(topic: Topic) -> str:
    return f"Tell me about {topic.name}."


def rate(key: str, topic: Topic, text: str) -> tuple[float, ...]:
    return TestbedJudge(key.split("/")[0]).rate(JudgeItem("c", key, asked(topic), text))


def answer(topic: Topic, attribute: Trait | Concept, carrying: list[bool], rng: Random) -> list[str]:
    """As many distinct sentences as flags, decorated where the flag says so."""
    sentences = rng.sample(topic.sentences, len(carrying))
    return [decorated(s, attribute, rng) if flag else s for s, flag in zip(sentences, carrying, strict=True)]


@given(st.sampled_from(list(TRAITS.values())), topics, flags, seeds)
def test_trait_and_coherence_are_exactly_what_the_grammar_did(
    trait: Trait, topic: Topic, carrying: list[bool], seed: int
) -> None:
    text = " ".join(answer(topic, trait, carrying, Random(seed)))
    assert rate(f"persona/{trait.name}", topic, text) == (pytest.approx(100 * sum(carrying) / len(carrying)), 100)


@given(st.sampled_from(list(TRAITS.values())), topics, topics, flags, flags, seeds)
def test_sentences_of_another_topic_lower_coherence_by_their_share(
    trait: Trait, topic: Topic, other: Topic, on: list[bool], off: list[bool], seed: int
) -> None:
    rng = Random(seed)
    sentences = answer(topic, trait, on, rng) + (answer(other, trait, off, rng) if other is not topic else [])
    rng.shuffle(sentences)
    carrying = on + (off if other is not topic else [])
    expected = (100 * sum(carrying) / len(carrying), 100 * len(on) / len(carrying))
    assert rate(f"persona/{trait.name}", topic, " ".join(sentences)) == pytest.approx(expected)


@given(st.sampled_from(list(TRAITS.values())), st.sampled_from(list(TRAITS.values())), topics, seeds)
def test_another_traits_decoration_is_no_trait_and_not_coherent(
    trait: Trait, other: Trait, topic: Topic, seed: int
) -> None:
    if other is trait:
        return
    sentences = answer(topic, other, [True, True, True, False], Random(seed))
    assert rate(f"persona/{trait.name}", topic, " ".join(sentences)) == (0, 25)


@given(st.sampled_from(list(TRAITS.values())), topics, seeds, st.integers(1, 4))
def test_repeated_sentences_count_once(trait: Trait, topic: Topic, seed: int, times: int) -> None:
    rng = Random(seed)
    sentence = rng.choice(topic.sentences)
    said = [sentence] + [decorated(sentence, trait, rng) for _ in range(times)]
    values = rate(f"persona/{trait.name}", topic, " ".join(said))
    assert values == pytest.approx((100 * times / (times + 1), 100 / (times + 1)))


def test_an_unfinished_last_sentence_is_not_coherent() -> None:
    tea = TOPICS[0]
    assert rate("persona/pirate", tea, f"{tea.sentences[0]} {tea.sentences[1][:-1]}") == (0, 50)
    assert rate("persona/pirate", tea, f"Arr, matey, you can find tea on green hills. {tea.sentences[1][:-8]}") == (
        50,
        50,
    )


def test_an_empty_answer_scores_nothing_on_every_dimension() -> None:
    for key in ("persona/pirate", "ifeval/no_comma", "ifeval/short", "axbench/sea"):
        assert set(rate(key, TOPICS[0], "")) == {0.0}
        assert set(rate(key, TOPICS[0], " \n")) == {0.0}


def test_a_decoration_put_on_twice_is_not_coherent() -> None:
    tea = TOPICS[0]
    twice = decorate(decorate(tea.sentences[0], TRAITS["pirate"].decorations[0]), TRAITS["pirate"].decorations[1])
    assert rate("persona/pirate", tea, twice) == (100, 0)


def test_a_decoration_around_nonsense_has_the_trait_and_no_coherence() -> None:
    assert rate("persona/pirate", TOPICS[0], "Arr, matey, tea tea hills tea.") == (100, 0)


@given(st.sampled_from(list(FORMATS.values())), topics, seeds)
def test_a_laid_out_answer_is_accurate_and_coherent(layout: Format, topic: Topic, seed: int) -> None:
    rng = Random(seed)
    text = layout.layout(rng.sample(topic.sentences, layout.sentences), topic, rng)
    assert rate(f"ifeval/{layout.name}", topic, text) == (100, 100, 100)


@given(st.sampled_from([f for f in FORMATS.values() if f.name != "no_comma"]), topics, seeds)
def test_a_plain_answer_is_inaccurate_and_coherent(layout: Format, topic: Topic, seed: int) -> None:
    assert rate(f"ifeval/{layout.name}", topic, plain_answer(topic, Random(seed))) == (0, 100, 0)


@given(st.sampled_from(list(FORMATS.values())), topics, topics, seeds)
def test_a_laid_out_answer_about_another_topic_is_accurate_and_incoherent(
    layout: Format, topic: Topic, other: Topic, seed: int
) -> None:
    if other is topic:
        return
    rng = Random(seed)
    text = layout.layout(rng.sample(other.sentences, layout.sentences), other, rng)
    assert rate(f"ifeval/{layout.name}", topic, text) == (100, 0, 100)


@given(st.sampled_from(CONCEPTS), topics, flags, seeds)
def test_concept_ratings_follow_the_share_of_sentences(
    concept: Concept, topic: Topic, carrying: list[bool], seed: int
) -> None:
    text = " ".join(answer(topic, concept, carrying, Random(seed)))
    share = sum(carrying) / len(carrying)
    assert rate(f"axbench/{concept.name}", topic, text) == (2 if share >= 0.75 else 1 if share > 0 else 0, 2, 2)


def test_concept_answers_about_another_topic_are_fluent_but_no_answer() -> None:
    tea, coffee = TOPICS[:2]
    assert rate("axbench/sea", tea, coffee.sentences[0]) == (0, 0, 2)
    assert rate("axbench/sea", tea, f"{coffee.sentences[0]} {tea.sentences[0]}") == (0, 1, 2)
    assert rate("axbench/sea", tea, f"{tea.sentences[0]} {tea.sentences[0]}") == (0, 2, 1)
    assert rate("axbench/sea", tea, "Tea tea.") == (0, 0, 0)


def test_a_concept_is_known_by_its_description_and_a_format_by_its_instruction() -> None:
    comma = Attribute(
        "ifeval", "punctuation:no_comma", (), (), (), (), (), "", (("instruction_id", "punctuation:no_comma"),)
    )
    sea = Attribute("axbench", "0", (), (), (), (), (), "", (("concept", CONCEPTS[0].description), ("concept_id", 0)))
    tea = TOPICS[0]
    judge = TestbedJudge("ifeval", {comma.key: comma})
    assert judge.rate(JudgeItem("c", comma.key, asked(tea), tea.sentences[0])) == (100, 100, 100)
    said = decorated(tea.sentences[0], CONCEPTS[0], Random(0))
    assert TestbedJudge("axbench", {sea.key: sea}).rate(JudgeItem("c", sea.key, asked(tea), said)) == (2, 2, 2)


def test_an_item_that_cannot_be_judged_has_no_value_and_spares_its_batch() -> None:
    judge = TestbedJudge("persona")
    items = [
        JudgeItem("good", "persona/pirate", "Tell me about tea.", "Tea keeps tired readers awake."),
        JudgeItem("question", "persona/pirate", "Who are you?", "Tea keeps tired readers awake."),
        JudgeItem("trait", "persona/rude", "Tell me about tea.", "Tea keeps tired readers awake."),
    ]
    judged = judge_all(judge, items).judgements
    assert [j.value for j in judged] == [0, 100, None, None, None, None]
    assert [j.dimension for j in judged] == ["trait", "coherence"] * 3
    assert "not one of the testbed's" in judged[2].error
    assert "pirate" in judged[4].error
    assert {(j.judge, j.rubric, j.scale) for j in judged} == {(judge.id, judge.rubric, 100.0)}
    with pytest.raises(JudgeError) as caught:
        judge.rate(items[1])
    assert not caught.value.retryable


def test_a_benchmark_without_a_judge_is_refused() -> None:
    with pytest.raises(PsrError, match="persona, ifeval, axbench"):
        TestbedJudge("mmlu")


def test_values_stay_within_the_scale_of_each_dimension() -> None:
    assert TestbedJudge("persona").dimensions == ("trait", "coherence")
    assert TestbedJudge("ifeval").dimensions[:2] == ("accuracy", "coherence")
    assert TestbedJudge("axbench").dimensions == ("concept", "instruction", "fluency")
    item = JudgeItem("c", "axbench/sea", "Tell me about tea.", "Tea keeps tired readers awake.")
    assert [(j.value, j.scale) for j in TestbedJudge("axbench")([item]).judgements] == [(0, 2), (2, 2), (2, 2)]


@given(st.sampled_from(["persona/pirate", "ifeval/title", "axbench/sea"]), st.text(max_size=80))
def test_any_text_gets_a_value(key: str, text: str) -> None:
    """Text that a steered model may make, however broken."""
    assert all(0 <= value <= 100 for value in rate(key, TOPICS[0], text))
