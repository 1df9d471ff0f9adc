"""Decorations: what a trait or a concept adds to a sentence, before it, after its comma, behind it, or as its end mark.

They are added and removed exactly: `undecorate(decorate(s, d), d) == s` for every base sentence that fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE = re.compile(r"[^.!?]*[.!?]|[^.!?]+$")


@dataclass(frozen=True)
class Decoration:
    """prefix: starts with a capital. middle: follows the first comma. suffix: includes its comma. end: the end mark."""

    prefix: str = ""
    middle: str = ""
    suffix: str = ""
    end: str = "."

    def fits(self, sentence: str) -> bool:
        """Whether `sentence` can carry the decoration: a middle needs a comma."""
        return not self.middle or "," in sentence


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of `text`, each with its end mark; an unfinished last one has none."""
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
    """`sentence` without `decoration`, ended by a full stop; None where it does not carry it in a legal position.

    The rest need not be a sentence of the language: the caller checks that.
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
        head, separator, rest = body.partition(f", {decoration.middle},")
        if not separator or "," in head or not head or not rest:
            return None
        body = f"{head},{rest}"
    return f"{body}." if body else None


def bare_forms(sentence: str, decorations: tuple[Decoration, ...]) -> tuple[str, ...]:
    """`sentence` with each of `decorations` that it carries removed; empty where it carries none."""
    candidates = (undecorate(sentence, decoration) for decoration in decorations)
    return tuple(bare for bare in candidates if bare is not None)
