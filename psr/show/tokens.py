"""Tokens shaded by a number each, and the same numbers by layer and token as a heatmap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from psr.errors import PsrError
from psr.show.style import SHADES
from psr.show.text import number, text, token

Rows = Sequence[Sequence[float]]  # [layer][token]
View = int | Literal["mean", "sum"]  # a layer, or all of them together


class Quantity(NamedTuple):
    """What a shade stands for: as it is written, in words, and the class of its hue in the style sheet."""

    symbol: str
    words: str
    hue: str


LAMBDA = Quantity("λ", "strength of steering λ", "s")
DELTA = Quantity("‖Δ‖", "the prompt's own effect ‖Δ‖", "d")
CELL, LEFT, LABEL, LONGEST = (14, 12), 30, 84, 14  # of a heatmap, in pixels; a label's letters


def in_view(rows: Rows, layers: Sequence[int], view: View) -> list[float]:
    """One number a token: of the layer `view`, or the mean or the sum over all. rows: [layer][token].

    Raises PsrError for a view that there is not.
    """
    if view in layers:
        return list(rows[list(layers).index(int(view))])
    if view not in ("mean", "sum"):
        raise PsrError("no such view of an answer", expected=f"'mean', 'sum' or one of {list(layers)}", got=repr(view))
    sums = [math.fsum(column) for column in zip(*rows, strict=True)]
    return [value / len(rows) for value in sums] if view == "mean" else sums


def shade(value: float, largest: float) -> int:
    """0 for nothing, else 1 to SHADES in proportion to the largest; by size, whatever the sign."""
    if not (math.isfinite(value) and math.isfinite(largest)) or value == 0 or largest <= 0:
        return 0
    return min(SHADES, 1 + int(abs(value) / largest * SHADES))


def tokens_html(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    answered: int | None = None,
    largest: float | None = None,
    of: Quantity = LAMBDA,
) -> str:
    """The tokens, each shaded by its value and with it as a title, and the scale below them.

    answered: how many of the last tokens are the answer; those before it stand apart, as the question. None: no question.
    largest: of the deepest shade; None: the answer's largest, since a chat's first token is often steered far more than all
    others. Values below 0 are shaded by their size and underlined.
    """
    top = deepest([values], answered) if largest is None else largest
    spans = [_span(*one, top, of.hue) for one in zip(tokens, values, strict=True)]
    border = 0 if answered is None else max(0, len(spans) - answered)
    sides = {"question": spans[:border], "answer": spans[border:]}
    said = "".join(
        f'<small>{name}</small><div class="tokens" dir="auto">{"".join(side)}</div>'
        for name, side in sides.items()
        if side
    )
    return f'<div class="said" role="group" aria-label="tokens shaded by {text(of.words)}">{said}</div>{scale([values], top, of)}'


def deepest(rows: Rows, answered: int | None) -> float:
    """What the deepest shade stands for: the largest of the answer, or of all where that is 0."""
    start = 0 if answered is None else max(0, len(rows[0]) - answered)
    return _largest([row[start:] for row in rows]) or _largest(rows)


def scale(rows: Rows, top: float, of: Quantity = LAMBDA) -> str:
    """From 0 to `top`, as shades."""
    steps = "".join(f'<span class="{of.hue}{i}"></span>' for i in range(1, SHADES + 1))
    return f'<p class="scale">{of.symbol} 0 {steps} {number(top)}{" or more" if _largest(rows) > top else ""}</p>'


def _span(words: str, value: float, largest: float, hue: str) -> str:
    depth = shade(value, largest)
    names = [*([f"{hue}{depth}"] if depth else []), *(["below"] if value < 0 else [])]
    look = f' class="{" ".join(names)}"' if names else ""
    html = token(words)
    end = "\n" if html.endswith("\n") else ""  # outside, so that what stands behind a token stays on its line
    return f'<span{look} title="{number(value)}">{html.removesuffix(end)}</span>{end}'


def heatmap(
    tokens: Sequence[str], rows: Rows, layers: Sequence[int], *, answered: int | None = None, of: Quantity = LAMBDA
) -> str:
    """Layers (the lowest at the bottom) by tokens, each cell shaded by its number; a column's title has all of its numbers.

    It keeps its size and scrolls sideways, with the keyboard too.
    """
    (wide, high), top = CELL, deepest(rows, answered)
    foot, width = high * len(layers), LEFT + wide * len(tokens)
    paths = dict.fromkeys(range(1, SHADES + 1), "")
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if depth := shade(value, top):
                paths[depth] += f"M{LEFT + wide * j} {foot - high * (i + 1)}h{wide}v{high}h-{wide}z"
    cells = "".join(f'<path class="{of.hue}{depth}" d="{path}"/>' for depth, path in paths.items() if path)
    every = max(1, -(-len(layers) // 24))
    names = "".join(
        f'<text x="{LEFT - 6}" y="{foot - high * i - 2}" text-anchor="end">{layer}</text>'
        for i, layer in enumerate(layers)
        if i % every == 0
    )
    columns = "".join(
        _column(LEFT + wide * j, foot, words, "\n".join(f"layer {layer}: {number(row[j])}" for layer, row in _down(layers, rows)))
        for j, words in enumerate(tokens)
    )  # fmt: skip
    x = LEFT + wide * (len(tokens) - (answered or len(tokens)))
    border = f'<path class="mark" d="M{x} 0V{foot}"/>' if x > LEFT else ""
    label = f"{of.words} by layer, the lowest at the bottom, and token"
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{text(label)}">'
        f'<svg width="{width}" viewBox="0 0 {width} {foot + LABEL}" role="img" aria-label="{text(label)}">'
        f'<rect class="frame" x="{LEFT}" width="{width - LEFT}" height="{foot}"/>{cells}{border}{names}{columns}</svg></div>'
        f"{scale(rows, top, of)}"
    )


def _down(layers: Sequence[int], rows: Rows) -> list[tuple[int, Sequence[float]]]:
    """Layers with their rows, the highest first, as they are drawn."""
    return list(zip(layers, rows, strict=True))[::-1]


def _column(x: int, foot: int, words: str, figures: str) -> str:
    """A token below its column, and what the column says when it is pointed at."""
    short = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    at = f'transform="translate({x + 3} {foot + 5}) rotate(90)"'
    return (
        f'<g><title>{token(words)}\n{figures}</title><rect x="{x}" width="{CELL[0]}" height="{foot + LABEL}" fill="transparent"/>'
        f"<text {at}>{token(short).replace(chr(10), '')}</text></g>"
    )


def _largest(rows: Rows) -> float:
    """By size, whatever the sign."""
    return max((abs(value) for row in rows for value in row if math.isfinite(value)), default=0.0)
