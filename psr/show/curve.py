"""Trait and coherence against the strength α, with the recommended α and the range in which answers make sense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from psr.show.text import details, number, table, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 340, 220, 34, 12, 30, 36  # in pixels
Point = tuple[float, float | None, float | None]  # α, effect, coherence


def curve_html(
    points: Sequence[Point],
    *,
    alpha: float | None = None,
    safe: tuple[float, float] | None = None,
    effect: str = "effect",
) -> str:
    """The chart, what it says in words, and its numbers as a table.

    points: α, effect and coherence, None where one was not measured. alpha: the recommended strength; safe: from where to
    where answers make sense. effect: what the first line is called.
    """
    words = [f"recommended α {number(alpha)}"] if alpha is not None else []
    words += [f"answers make sense from {number(safe[0])} to {number(safe[1])}, as far as was tried"] if safe else []
    rows = [[number(one) for one in point] for point in sorted(points)]
    caption = f"<figcaption>{text('; '.join(words))}</figcaption>" if words else ""
    numbers = details("the numbers", table(("α", effect, "coherence"), rows))
    return f"<figure>{curve_svg(points, alpha=alpha, safe=safe, effect=effect)}{caption}</figure>{numbers}"


def curve_svg(
    points: Sequence[Point],
    *,
    alpha: float | None = None,
    safe: tuple[float, float] | None = None,
    effect: str = "effect",
) -> str:
    """The chart alone: effect as a line with dots, coherence dashed with squares; a line at `alpha`, a band over `safe`."""
    points = sorted(points)
    x = _Axis([0.0, *(one[0] for one in points), *([alpha] if alpha is not None else [])], LEFT, WIDTH - RIGHT)
    values = [value for _, *both in points for value in both if value is not None]
    y = _Axis([0.0, 100.0, *values], HEIGHT - FOOT, TOP)
    drawn = [_band(x, safe)] if safe else []
    drawn += [
        f'<path class="grid" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{number(tick)}</text>'
        for tick in y.ticks(5)
    ]
    drawn += [
        f'<text x="{x(tick)}" y="{HEIGHT - FOOT + 16}" text-anchor="middle">{number(tick)}</text>'
        for tick in x.ticks(6)
    ]
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">strength α</text>')
    if alpha is not None:
        side = ("end", -4) if x(alpha) > WIDTH / 2 else ("start", 4)
        drawn.append(
            f'<path class="mark" d="M{x(alpha)} {TOP}V{HEIGHT - FOOT}"/>'
            f'<text class="strong" x="{x(alpha) + side[1]}" y="{HEIGHT - FOOT - 6}" text-anchor="{side[0]}">α {number(alpha)}</text>'
        )
    for column, name, look in ((1, effect, "one"), (2, "coherence", "two")):
        here = [(one[0], value) for one in points if (value := one[column]) is not None]
        drawn.append(_line(here, x, y, name, look))
        drawn.append(_legend(name, look, LEFT if look == "one" else WIDTH / 2))
    label = f"{effect} and coherence against the strength α"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="{text(label)}">{"".join(drawn)}</svg>'
    )


def curve_points(value: Any) -> list[Point]:
    """What a module's origin holds as its curve: rows of α, effect and coherence, null where not measured. Anything else is none."""
    rows = [row for row in value if isinstance(row, list | tuple) and len(row) == 3] if isinstance(value, list) else []
    points = [(_finite(alpha), _finite(effect), _finite(coherence)) for alpha, effect, coherence in rows]
    return [(alpha, effect, coherence) for alpha, effect, coherence in points if alpha is not None]


def _finite(value: Any) -> float | None:
    return None if number(value) == "–" else float(value)


class _Axis:
    """From values to pixels."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        values = list(values)
        self.low, self.high = min(values), max(values)
        if self.low == self.high:
            self.high = self.low + 1
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within, at most so many steps."""
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * i for i in (1, 2, 2.5, 5, 10) if size * i >= rough * 0.999)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def _band(x: _Axis, safe: tuple[float, float]) -> str:
    left, right = x(safe[0]), x(safe[1])
    words = f"answers make sense from {number(safe[0])} to {number(safe[1])}"
    return (
        f'<rect class="band" x="{left}" y="{TOP}" width="{max(0.0, round(right - left, 1))}" height="{HEIGHT - FOOT - TOP}">'
        f"<title>{text(words)}</title></rect>"
    )


def _line(points: Sequence[tuple[float, float]], x: _Axis, y: _Axis, name: str, look: str) -> str:
    path = "L".join(f"{x(alpha)} {y(value)}" for alpha, value in points)
    marks = "".join(
        f"{_mark(x(alpha), y(value), look)}<title>{text(name)} {number(value)} at α {number(alpha)}</title>"
        f"</{_TAG[look]}>"
        for alpha, value in points
    )
    return f'<path class="{look}" d="M{path}"/>{marks}' if points else ""


_TAG = {"one": "circle", "two": "rect"}


def _mark(x: float, y: float, look: str) -> str:
    if look == "one":
        return f'<circle class="one" cx="{x}" cy="{y}" r="4">'
    return f'<rect class="two" x="{round(x - 3.5, 1)}" y="{round(y - 3.5, 1)}" width="7" height="7">'


def _legend(name: str, look: str, x: float) -> str:
    mark = f"{_mark(x + 12, 12, look)}</{_TAG[look]}>"
    return f'<path class="{look}" d="M{x} 12h24"/>{mark}<text x="{x + 30}" y="16">{text(name)}</text>'
