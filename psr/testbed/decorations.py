"""What a trait or a concept does to a sentence: words before it, after its comma, behind it, or another end.

A decoration can be put on and taken off exactly: `undecorate(decorate(s, d), d) == s` for every base sentence it fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE = re.compile(r"[^.!?]*[.!?]|[^.!?]+$")


@dataclass(frozen=True)
class Decoration:
    """prefix: a capital first. middle: stands between commas, where the sentence has one. suffix: with its own comma."""

    prefix: str = ""
    middle: str = ""
    suffix: str = ""
    end: str = "."

    def fits(self, sentence: str) -> bool:
        """Whether the decoration has a legal place in `sentence`."""
        return not self.middle or "," in sentence


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of `text`, each with its end mark; an unfinished last one comes without."""
    return tuple(piece.strip() for piece in _SENTENCE.findall(text) if piece.strip())


def decorate(sentence: str, decoration: Decoration) -> str:
    """`sentence` (a capital first, a full stop last) carrying `decoration`."""
    body = sentence[:-1]
    if decoration.middle:
        body = body.replace(",", f", {decoration.middle},", 1)
    if decoration.prefix:
        body = f"{decoration.prefix} {body[0].lower()}{body[1:]}"
    return f"{body}{decoration.suffix}{decoration.end}"


def undecorate(sentence: str, decoration: Decoration) -> str | None:
    """`sentence` without `decoration`, ended by a full stop; None when it does not carry it at a legal place.

    What is left need not be a sentence of the language: whether it is, is for the caller to ask.
    """
    tail = decoration.suffix + decoration.end
    if not sentence.endswith(tail):
        return None
    body = sentence[: len(sentence) - len(tail)]
    if decoration.prefix:
        if not body.startswith(decoration.prefix + " "):
            return None
        body = body[len(decoration.prefix) + 1 :]
        if not body[:1].islower():
            return None
        body = body[0].upper() + body[1:]
    if decoration.middle:
        head, found, rest = body.partition(f", {decoration.middle},")
        if not found or "," in head or not head or not rest:
            return None
        body = f"{head},{rest}"
    return f"{body}." if body else None


def bare_forms(sentence: str, decorations: tuple[Decoration, ...]) -> tuple[str, ...]:
    """What `sentence` can be with one of `decorations` taken off: empty when it carries none of them."""
    found = (undecorate(sentence, decoration) for decoration in decorations)
    return tuple(bare for bare in found if bare is not None)
