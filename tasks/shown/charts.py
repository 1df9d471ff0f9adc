"""The report's charts as numbers: trait alignment by method, trait against coherence, training.

A chart says where each dot and tick of an SVG stands; templates/charts.svg draws it, and colours are classes of its style
sheet. Coordinates are rounded to a tenth, so that equal figures give equal bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from psr.fitting.methods import METHODS

Row = Mapping[str, Any]
AnyRow = TypeVar("AnyRow", bound=Row)
Names = Mapping[str, str]
Ticks = Sequence[tuple[float, str]]  # position, label
KINDS = ("s-const-", "s-psr-", "a-const-", "a-psr-")
COLOURS = 8  # classes m0 to m7 of the style sheet
ORDER = ("plain", *(method.slug for method in METHODS), "prompt")
ROW = 26  # the height of a method's row in the alignment chart
LEFT, RIGHT, BOTTOM, TOP = 38.0, 292.0, 190.0, 12.0  # the ends of the axes of the other charts


class Mark(NamedTuple):
    """A dot with its words; low and high are the ends of its interval, where it has one."""

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """A method's marks, left to right. style: the class that colours it."""

    name: str
    style: str
    marks: list[Mark]


class Panel(NamedTuple):
    """One attribute's chart. guides: what is marked by a dashed line."""

    title: str
    lines: list[Line]
    xticks: Ticks
    yticks: Ticks
    guides: Ticks = ()


class Axis(NamedTuple):
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

    def interval(self, low: float | None, high: float | None) -> tuple[float | None, float | None]:
        """Positions of an interval's ends, where it has any."""
        return None if low is None else self(low), None if high is None else self(high)

    def ticks(self, values: Iterable[float]) -> Ticks:
        """Those of `values` that lie on the axis."""
        return [(self(value), f"{value:g}") for value in values if self.low <= value <= self.high]


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
    """method -> class. The four kinds of module (S or A, constant or PSR) keep m0 to m3 in every report, for their MSE
    on QR if it was measured; further methods follow; plain and prompt have classes of their own."""
    steered = [slug for slug in sorted(set(slugs), key=rank) if slug not in ("plain", "prompt")]
    colours: dict[str, int] = {}
    for i, kind in enumerate(KINDS):
        same = sorted((s for s in steered if s.startswith(kind)), key=lambda slug: not slug.endswith("-mse-qr"))
        colours |= dict.fromkeys(same[:1], i)
    others = [slug for slug in steered if slug not in colours]
    colours |= {slug: len(KINDS) + i % (COLOURS - len(KINDS)) for i, slug in enumerate(others)}
    return {"plain": "plain", "prompt": "prompt"} | {
        slug: f"m{colours[slug]}{' single' if slug.startswith('s-') else ''}" for slug in steered
    }


def alignment(headline: Sequence[Row], style: Names) -> list[Panel]:
    """Per attribute, a row a method: TA@Cp with its interval, and where the prompt stands."""
    rows = {slug: ROW * i + ROW / 2 for i, (slug, _) in enumerate(by_method(headline))}
    x = Axis(0, 100, 10.0, 230.0)

    def line(row: Row) -> Line:
        low, high = row["ta_cp_low"], row["ta_cp_high"]
        interval = "" if low is None or high is None else f" (95 % interval {low:.1f} to {high:.1f})"
        words = f"{row['name']}: {row['ta_cp']:.1f}{interval}"
        mark = Mark(x(row["ta_cp"]), rows[row["method"]], words, *x.interval(low, high))
        return Line(row["name"], style[row["method"]], [mark])

    panels = []
    for attribute, here in grouped(headline, "attribute"):
        known = [row for _, (row, *_) in by_method(here) if row["ta_cp"] is not None]
        guides = [(x(row["ta_cp"]), "prompt") for row in known if row["method"] == "prompt"]
        panels.append(Panel(short(attribute), [line(row) for row in known], x.ticks(range(0, 101, 25)), [], guides))
    return panels


def coherence(curve: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: trait against coherence, a line a method along alpha, the prompt and the plain model as dots."""
    known = [row for row in curve if None not in (row["trait"], row["coherence"])]
    lowest = min((int(row["coherence"] // 20 * 20) for row in known), default=0)
    x, y = Axis(min(lowest, 60), 100, LEFT, RIGHT), Axis(0, 100, BOTTOM, TOP)

    def mark(row: Row) -> Mark:
        alpha = "" if row["alpha"] is None else f", alpha {row['alpha']:g}"
        figures = f"trait {row['trait']:.1f}, coherence {row['coherence']:.1f} (n {row['n']})"
        return Mark(x(row["coherence"]), y(row["trait"]), f"{names[row['method']]}{alpha}: {figures}")

    def line(slug: str, rows: list[Row]) -> Line:
        return Line(names[slug], style[slug], [mark(row) for row in sorted(rows, key=lambda row: row["alpha"] or 0)])

    ticks = x.ticks(range(int(x.low), 101, 20)), y.ticks(range(0, 101, 20)), [(x(80), "80")]
    return [
        Panel(short(attribute), [line(*group) for group in by_method(here)], *ticks)
        for attribute, here in grouped(known, "attribute")
    ]


def training(curves: Sequence[Row], modules: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: the loss of every fitted module over its epochs, relative to its first, on a log scale."""
    of_module = dict(grouped(sorted(curves, key=itemgetter("epoch")), "module"))
    fitted = {
        module: [{**row, "relative": row["loss"] / rows[0]["loss"]} for row in rows]
        for module, rows in of_module.items()
        if rows[0]["loss"] > 0
    }
    if not fitted:
        return []
    points = [row for rows in fitted.values() for row in rows]
    losses, last = [row["relative"] for row in points], max(row["epoch"] for row in points)
    x, y = Axis(1, last, LEFT, RIGHT), Axis(max(min(0.1, *losses), 1e-4), max(1.0, *losses), BOTTOM, TOP, log=True)

    def line(module: Row) -> Line:
        name = names[module["method"]]
        words = "{}, epoch {epoch}: loss {loss:.4g}, dead gates {percent:.0f} %"
        marks = [
            Mark(x(row["epoch"]), y(row["relative"]), words.format(name, percent=100 * row["dead"], **row))
            for row in fitted[module["id"]]
        ]
        return Line(name, style[module["method"]], marks)

    epochs = sorted({1, *range(last, 0, -max(1, last // 5))})
    ticks = x.ticks(epochs), y.ticks((1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001))
    panels = []
    for attribute, here in grouped(modules, "attribute"):
        drawn = [line(row) for _, own in by_method(here) for row in own if row["id"] in fitted]
        panels.append(Panel(short(attribute), drawn, *ticks))
    return panels
