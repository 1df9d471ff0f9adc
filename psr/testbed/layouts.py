"""The layouts of an answer: one function applies each to sentences, another removes it from a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from psr.testbed.topics import Topic

END_PHRASE = "That is all you need to know."
TITLES = ("Facts about {}", "A short guide to {}")
Layout = Callable[[Sequence[str], Topic, Random], str]


def running(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    """The plain layout: the sentences, one after the other."""
    return " ".join(sentences)


def as_it_is(text: str) -> str:
    return text


def in_lowercase(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return " ".join(sentences).lower()


def without_commas(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return " ".join(sentences).replace(",", "")


def as_bullets(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def without_bullets(text: str) -> str:
    return re.sub(r"^- ", "", text, flags=re.MULTILINE)


def in_quotes(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return f'"{" ".join(sentences)}"'


def without_quotes(text: str) -> str:
    return text.strip().removeprefix('"').removesuffix('"')


def with_ending(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return " ".join((*sentences, END_PHRASE))


def without_ending(text: str) -> str:
    return text.strip().removesuffix(END_PHRASE)


def with_title(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    return f"<<{rng.choice(TITLES).format(topic.name)}>>\n{' '.join(sentences)}"


def without_title(text: str) -> str:
    return re.sub(r"^<<[^\n<>.!?]+>>\n", "", text)


def with_highlights(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    """The last two words of every sentence, between asterisks."""
    return " ".join(re.sub(r"(\w+ \w+)\.$", r"*\1*.", sentence) for sentence in sentences)


def without_highlights(text: str) -> str:
    return re.sub(r"\*([^\n\*]+)\*", r"\1", text)


def in_sections(sentences: Sequence[str], topic: Topic, rng: Random) -> str:
    half = len(sentences) // 2
    return f"Section 1\n{' '.join(sentences[:half])}\nSection 2\n{' '.join(sentences[half:])}"


def without_sections(text: str) -> str:
    return re.sub(r"(^|\n)Section [12]\n", r"\1", text)
