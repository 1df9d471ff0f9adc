"""What `psr` shows: text from models and files made harmless for a terminal, and a module as tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from psr.show.curve import curve_points
from psr.show.module import norms, ranges
from psr.show.text import BIDI

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


def clean(text: object) -> str:
    """`text` without control characters (line ends and tabs stay) and without marks that reorder what is around them."""
    return "".join(c for c in str(text) if c in "\n\t" or _harmless(c)).strip("\n")


def _harmless(c: str) -> bool:
    return unicodedata.category(c) != "Cc" and unicodedata.bidirectional(c) not in BIDI


def describe(module: SteeringModule) -> list[Table]:
    """What the module is, where it came from, the figures its origin names, and the length of its vectors per layer."""
    origin = dict(module.origin)
    figures, points = origin.pop("figures", {}), curve_points(origin.pop("curve", []))
    facts = {"form": module.form, "layers": ranges(module.layers), "span": module.span, "width": module.d_model,
             "model": module.model, **({"fitted on": str(module.base)} if module.base.name else {})}  # fmt: skip
    parts = {f"module {module.id}": facts, "origin": origin, "figures": figures}
    curve = [_columns(("alpha", "effect", "coherence"), [[_number(one) for one in point] for point in points])]
    tables = [_entries(title, entries) for title, entries in parts.items() if entries]
    return [*tables, *(curve if points else []), _norms(module)]


def _entries(title: str, entries: Mapping[str, Any]) -> Table:
    """Names and values, nested ones with dots in their names."""
    table = Table(title=Text(clean(title)), title_justify="left", show_header=False, box=None)
    for name, value in _flat(entries):
        table.add_row(Text(clean(name)), Text(clean(value), overflow="fold"))
    return table


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, f"{value:g}" if isinstance(value, float) else value


def _norms(module: SteeringModule) -> Table:
    """The length of its vectors, layer by layer."""
    lengths = norms(module)
    rows = [[str(layer), *(f"{values[i]:.4g}" for values in lengths.values())] for i, layer in enumerate(module.layers)]
    return _columns(("layer", *lengths), rows)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None)
    for name in head:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
