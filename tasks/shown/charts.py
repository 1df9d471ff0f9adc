"""Charts as numbers: where each line, dot and tick of an SVG stands. Templates draw them; colours are classes.

Coordinates are rounded to a tenth, so that equal figures give equal bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psr.fitting.methods import METHODS

KINDS = ("s-const-", "s-psr-", "a-const-", "a-psr-")
COLOURS = 8  # classes m0 to m7 of the style sheet
ORDER = ("plain", *(method.slug for method in METHODS), "prompt")


@dataclass(frozen=True)
class Mark:
    """A dot with its words; low and high are the ends of its interval, where it has one."""

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A method's line through its marks, left to right. style: the class that colours it."""

    name: str
    style: str
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """A gridline and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One attribute's chart. guides: (position, label) of what is marked by a dashed line."""

    title: str
    lines: tuple[Line, ...]
    xticks: tuple[Tick, ...]
    yticks: tuple[Tick, ...]
    guides: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Axis:
    """From values to positions; a value outside [low, high] stands at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(max(v, 1e-12)) if self.log else v for v in (self.low, self.high, value))
        share = 0.0 if high == low else (min(max(value, low), high) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, values: Iterable[float]) -> tuple[Tick, ...]:
        return tuple(Tick(self(value), f"{value:g}") for value in values)


def rank(slug: str) -> tuple[int, str]:
    """Where a method stands in every table and legend: plain, single layer, all layers, prompt."""
    return (ORDER.index(slug) if slug in ORDER else len(ORDER), slug)


def styles(slugs: Iterable[str]) -> dict[str, str]:
    """method -> class. The four kinds of module (S or A, constant or PSR) keep m0 to m3 in every report, for their MSE
    on QR if it was measured; further methods follow; plain and prompt have classes of their own."""
    steered = [slug for slug in sorted(set(slugs), key=rank) if slug not in ("plain", "prompt")]
    chosen: dict[str, int] = {}
    for i, kind in enumerate(KINDS):
        found = sorted(
            (slug for slug in steered if slug.startswith(kind)), key=lambda slug: not slug.endswith("-mse-qr")
        )
        if found:
            chosen[found[0]] = i
    free = [slug for slug in steered if slug not in chosen]
    chosen |= {slug: len(KINDS) + i % (COLOURS - len(KINDS)) for i, slug in enumerate(free)}
    return {"plain": "plain", "prompt": "prompt"} | {
        slug: f"m{chosen[slug]}{' single' if slug.startswith('s-') else ''}" for slug in steered
    }


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """The points as an SVG path."""
    return " ".join(f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(points))
