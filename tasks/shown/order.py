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
    """method -> classes. The four kinds of module (S or A, constant or PSR) keep m0 to m3 in every report, for their MSE
    on QR if it was measured; further methods take the other colours, neighbours in another shape, and once the colours are
    used up each in its next one. Single layers are hollow and dashed, and count for themselves. Plain and prompt have
    classes of their own."""
    steered = [slug for slug in sorted(set(slugs), key=rank) if slug not in ("plain", "prompt")]
    looks: dict[str, str] = {}
    for i, kind in enumerate(KINDS):
        same = sorted((s for s in steered if s.startswith(kind)), key=lambda slug: not slug.endswith("-mse-qr"))
        looks |= dict.fromkeys(same[:1], f"m{i}")
    for single in (True, False):
        others = [slug for slug in steered if slug not in looks and slug.startswith("s-") == single]
        for i, slug in enumerate(others):
            turn, colour = divmod(i, COLOURS - len(KINDS))
            looks[slug] = f"m{len(KINDS) + colour}{SHAPES[(colour + turn) % len(SHAPES)]}"
    return {"plain": "plain", "prompt": "prompt"} | {
        slug: looks[slug] + (" single" if slug.startswith("s-") else "") for slug in steered
    }
