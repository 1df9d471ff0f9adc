"""A question stands on one side only: for fitting, for choosing alpha (search), or for the figures (evaluation)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from psr.types import Attribute


class Sides(NamedTuple):
    """An attribute's questions by side, and how many were left out.

    repeated: those that stood on their own side before; fitted: those of search and evaluation that are for fitting.
    Kept and left out are together all that were given.
    """

    fitting: tuple[str, ...]
    search: tuple[str, ...]
    evaluate: tuple[str, ...]
    repeated: int
    fitted: int


class Loaded(NamedTuple):
    """What a benchmark's loader returns for an attribute."""

    attribute: Attribute
    sides: Sides


def divide(fitting: Iterable[str], others: Iterable[str]) -> Sides:
    """The fitting questions, and of the others those that are new: the even ones for search, the odd for evaluation.

    White space around a question does not make it another one; the first of equal questions is kept as it is written.
    """
    fitting, others = list(fitting), list(others)
    fit = distinct(fitting)
    known = {text.strip() for text in fit}
    unseen = [text for text in others if text.strip() not in known]
    asked = distinct(unseen)
    repeated = len(fitting) - len(fit) + len(unseen) - len(asked)
    return Sides(fit, asked[::2], asked[1::2], repeated, len(others) - len(unseen))


def distinct(texts: Iterable[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """The first of equal texts, in order, without those that are `known`; white space around them is not compared."""
    taken, found = {text.strip() for text in known}, []
    for text in texts:
        if text.strip() not in taken:
            taken.add(text.strip())
            found.append(text)
    return tuple(found)
