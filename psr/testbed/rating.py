"""Exact ratings of an answer by parsing it: pure functions from a question and a text to ratings.

A text is split into sentences; each is a base sentence of the question's topic, one with a decoration, or neither.
An unfinished last sentence and a repeated one count as sentences, never as coherent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from psr.testbed.concepts import Concept
from psr.testbed.decorations import Decoration, bare_forms, split_sentences
from psr.testbed.formats import Format
from psr.testbed.questions import topic_of
from psr.testbed.topics import TOPICS, Topic
from psr.testbed.verifiers import follows, follows_loosely

ANY_TOPIC = frozenset(sentence for topic in TOPICS for sentence in topic.sentences)


@dataclass(frozen=True)
class Parsed:
    """A text's sentences. carries: whether each has a decoration; bases: its base sentence, or None."""

    carries: tuple[bool, ...]
    bases: tuple[str | None, ...]


def parse(text: str, decorations: tuple[Decoration, ...]) -> Parsed:
    """Split `text` into sentences and remove `decorations` from each."""
    sentences = split_sentences(text)
    bare = [bare_forms(sentence, decorations) for sentence in sentences]
    bases = [next((b for b in (s, *forms) if b in ANY_TOPIC), None) for s, forms in zip(sentences, bare, strict=True)]
    return Parsed(tuple(bool(forms) for forms in bare), tuple(bases))


def share(flags: Iterable[bool]) -> float:
    """The share of true flags; 0 for none."""
    flags = tuple(flags)
    return sum(flags) / len(flags) if flags else 0.0


def distinct(bases: Sequence[str | None], allowed: Callable[[str], bool]) -> float:
    """The share of `bases` that are allowed and not repeated."""
    return share(base is not None and allowed(base) and base not in bases[:i] for i, base in enumerate(bases))


def rate_persona(question: str, text: str, decorations: tuple[Decoration, ...]) -> tuple[float, float]:
    """(trait, coherence): the share of sentences that carry a decoration in a legal position, and the share
    that, with it removed, are base sentences of the topic and not repeated. (0, 0) for an empty answer.
    """
    said = topic_of(question).sentences
    parsed = parse(text, decorations)
    return share(parsed.carries), distinct(parsed.bases, said.__contains__)


def rate_format(question: str, text: str, layout: Format) -> tuple[float, float, float]:
    """(accuracy strict, coherence, accuracy loose). Coherence is that of the sentences without the layout,
    ignoring case and commas, so that it does not measure obedience a second time.
    """
    said = {_blind(sentence) for sentence in topic_of(question).sentences}
    sentences = [_blind(sentence) for sentence in split_sentences(layout.bare(text))]
    strict = follows(text, layout.instruction_id, layout.kwargs)
    loose = follows_loosely(text, layout.instruction_id, layout.kwargs)
    return float(strict), distinct(sentences, said.__contains__), float(loose)


def rate_concept(question: str, text: str, concept: Concept) -> tuple[float, float, float]:
    """(concept, instruction, fluency), each 0, 1 or 2 as in AxBench.

    concept: 2 where at least three quarters of the sentences carry it, 1 where one does. instruction: by the share of
    sentences on the topic, 2 from three quarters on, 1 from a quarter on. fluency: by the share of distinct sentences
    of the language on any topic, 2 for all, 1 from a half on.
    """
    topic: Topic = topic_of(question)
    parsed = parse(text, concept.decorations)
    carried = share(parsed.carries)
    on_topic = share(base in topic.sentences for base in parsed.bases)
    fluent = distinct(parsed.bases, ANY_TOPIC.__contains__)
    return _grade(carried, 1e-9, 0.75), _grade(on_topic, 0.25, 0.75), _grade(fluent, 0.5, 1.0)


def _grade(value: float, one: float, two: float) -> float:
    return 2.0 if value >= two else 1.0 if value >= one else 0.0


def _blind(sentence: str) -> str:
    return sentence.lower().replace(",", "")
