"""Text and numbers as they stand in HTML: text of models and files is always escaped, and what cannot be seen is shown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}  # they reorder the text around them
UNSEEN = "∅"


def text(value: object) -> str:
    """`value` as HTML, in which it is text and nothing else, also in an attribute."""
    return escape("".join(map(_shown, str(value))))


def token(value: str) -> str:
    """A token as HTML, spaces kept: a line end is ⏎ and a line end, a token without anything to see is ∅."""
    seen = any(c.isprintable() and not unicodedata.category(c).startswith("C") for c in value.replace("\n", "⏎"))
    return text(value.replace("\n", "⏎\n")) if seen or value.isspace() else UNSEEN


def _shown(c: str) -> str:
    """� for a control character, a lone surrogate, a mark that reorders what is around it. Line ends and tabs stay."""
    hidden = unicodedata.category(c) in ("Cc", "Cs") or unicodedata.bidirectional(c) in BIDI
    return "�" if hidden and c not in "\n\t" else c


def number(value: object, digits: int = 3) -> str:
    """A number in so many significant digits, with a minus that is one; – for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", "−")


def facts(rows: Mapping[str, object]) -> str:
    """Names and values as a list."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows.items()) + "</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first cell of a row is its head."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = (
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="wide" tabindex="0"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def details(summary: str, body: str) -> str:
    """What is folded away until it is asked for. body: HTML."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"
