"""The order of methods in every table and legend, the look of each, and rows in groups."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from psr.fitting.methods import METHODS

Row = Mapping[str, Any]
AnyRow = TypeVar("AnyRow", bound=Row)
Names = Mapping[str, str]
KINDS = ("s-const-", "s-psr-", "a-const-", "a-psr-")
COLOURS = 8  # classes m0 to m7 of the style sheet
SHAPES = ("", " square", " diamond", " triangle")  # classes of the style sheet; without one a circle
ORDER = ("plain", *(method.slug for method in METHODS), "prompt")


def grouped(rows: Iterable[AnyRow], *columns: str) -> list[tuple[Any, list[AnyRow]]]:
    """(value, its rows) for each value of the columns, sorted."""
    value = itemgetter(*columns)
    return [(key, list(own)) for key, own in groupby(sorted(rows, key=value), value)]


def by_method(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """(method, its rows), in the order of every table and legend."""
    return sorted(grouped(rows, "method"), key=lambda group: rank(group[0]))


def rank(slug: str) -> tuple[int, str]:
    """Where a method stands in every table and legend: plain, single layer, all layers, prompt."""
    return (ORDER.index(slug) if slug in ORDER else len(ORDER), slug)


def short(attribute: str) -> str:
    """An attribute without its benchmark: persona/pirate is pirate."""
    return attribute.partition("/")[2] or attribute


def styles(slugs: Iterable[str]) -> dict[str, str]:
    """method -> classes: a colour, a shape, and for single layers, which are hollow and dashed, `single`.

    The four kinds of module (S or A, constant or PSR) keep m0 to m3 and circles in every report, for their MSE on QR if it was
    measured. Further methods take the other colours, neighbours in another shape; when all eight are used up each comes
    again in a shape of its own, so that 28 of them and the four differ. Plain and prompt have classes of their own.
    """
    steered = [slug for slug in sorted(set(slugs), key=rank) if slug not in ("plain", "prompt")]
    looks: dict[str, str] = {}
    for i, kind in enumerate(KINDS):
        same = sorted((s for s in steered if s.startswith(kind)), key=lambda slug: not slug.endswith("-mse-qr"))
        looks |= dict.fromkeys(same[:1], f"m{i}")
    others = (slug for slug in steered if slug not in looks)
    looks |= {slug: _look(i) for i, slug in enumerate(others, len(KINDS))}
    return {"plain": "plain", "prompt": "prompt"} | {
        slug: looks[slug] + (" single" if slug.startswith("s-") else "") for slug in steered
    }


def _look(i: int) -> str:
    """The i-th colour and its shape in this turn; those of the four kinds are no circles again."""
    turn, colour = divmod(i, COLOURS)
    kind = colour < len(KINDS)
    return f"m{colour}{SHAPES[1 + (colour + turn) % 3 if kind else (colour + turn) % 4]}"
