"""The grammar of the instruct language: conversations drawn at random, of a question, an instruction and an answer.

An answer is four distinct sentences of the question's topic in random order (formats have counts of their own); under a
trait or a concept each sentence carries one of its decorations, under a format the answer has its layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from psr.testbed.concepts import CONCEPTS, Concept
from psr.testbed.decorations import decorate
from psr.testbed.formats import FORMATS, Format
from psr.testbed.neutral import NEUTRAL, NEUTRAL_HELD_OUT
from psr.testbed.questions import FORMS
from psr.testbed.topics import TOPICS, Topic
from psr.testbed.traits import TRAITS, Trait

SENTENCES = 4
# Shares of the language model's training text: kind -> weight.
MIXTURE = {"none": 0.25, "neutral": 0.05, "trait": 0.40, "format": 0.15, "concept": 0.15}
IN_USER_TURN = 0.3  # share of format instructions that follow the question, as in IFEval's prompts


@dataclass(frozen=True)
class Sample:
    """One conversation. system: the instruction, "" for none. kind, name: of the attribute that it asks for."""

    system: str
    user: str
    answer: str
    kind: str
    name: str = ""


def pick_sentences(topic: Topic, count: int, rng: Random) -> list[str]:
    """`count` distinct base sentences of `topic` in random order."""
    return rng.sample(topic.sentences, count)


def decorated(sentence: str, attribute: Trait | Concept, rng: Random) -> str:
    """`sentence` with one of the attribute's decorations that fit, all equally likely."""
    return decorate(sentence, rng.choice([d for d in attribute.decorations if d.fits(sentence)]))


def plain_answer(topic: Topic, rng: Random) -> str:
    """An answer without an instruction, or with a neutral one."""
    return " ".join(pick_sentences(topic, SENTENCES, rng))


def decorated_answer(topic: Topic, attribute: Trait | Concept, rng: Random) -> str:
    """An answer each of whose sentences obeys independently, with probability `attribute.obeyed`."""
    sentences = pick_sentences(topic, SENTENCES, rng)
    return " ".join(decorated(s, attribute, rng) if rng.random() < attribute.obeyed else s for s in sentences)


def laid_out_answer(topic: Topic, layout: Format, rng: Random) -> str:
    """An answer that has the layout with probability `layout.obeyed`, and is plain otherwise."""
    if rng.random() >= layout.obeyed:
        return plain_answer(topic, rng)
    return layout.layout(pick_sentences(topic, layout.sentences, rng), topic, rng)


def sample(rng: Random, kind: str | None = None, topics: Sequence[Topic] = TOPICS) -> Sample:
    """One conversation, drawn from the mixture (or of one kind): every topic, form and paraphrase may occur."""
    kind = kind or rng.choices(tuple(MIXTURE), tuple(MIXTURE.values()))[0]
    topic = rng.choice(topics)
    question = rng.choice(FORMS).format(topic.name)
    if kind == "none":
        return Sample("", question, plain_answer(topic, rng), kind)
    if kind == "neutral":
        return Sample(rng.choice(NEUTRAL + NEUTRAL_HELD_OUT), question, plain_answer(topic, rng), kind)
    if kind == "format":
        return _format_sample(question, topic, rng)
    attribute: Trait | Concept = rng.choice(tuple(TRAITS.values())) if kind == "trait" else rng.choice(CONCEPTS)
    instruction = rng.choice(attribute.instructions + attribute.held_out)
    return Sample(instruction, question, decorated_answer(topic, attribute, rng), kind, attribute.name)


def _format_sample(question: str, topic: Topic, rng: Random) -> Sample:
    layout = rng.choice(tuple(FORMATS.values()))
    instruction = rng.choice(layout.instructions + layout.held_out)
    answer = laid_out_answer(topic, layout, rng)
    if rng.random() < IN_USER_TURN:
        return Sample("", f"{question} {instruction}", answer, "format", layout.name)
    return Sample(instruction, question, answer, "format", layout.name)
