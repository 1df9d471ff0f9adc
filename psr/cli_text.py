"""What `psr` shows: text from models and files made harmless for a terminal, and a module as tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule

BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}  # they reorder the text around them


def clean(text: object) -> str:
    """`text` without control characters (line ends and tabs stay) and without marks that reorder what is around them."""
    return "".join(c for c in str(text) if c in "\n\t" or _harmless(c)).strip("\n")


def _harmless(c: str) -> bool:
    return unicodedata.category(c) != "Cc" and unicodedata.bidirectional(c) not in BIDI


def describe(module: SteeringModule) -> list[Table]:
    """What the module is, where it came from, the figures its origin names, and the length of its vectors per layer."""
    origin = dict(module.origin)
    figures = origin.pop("figures", {})
    facts = {"form": module.form, "layers": ranges(module.layers), "span": module.span, "width": module.d_model,
             "model": module.model, **({"fitted on": str(module.base)} if module.base.name else {})}  # fmt: skip
    parts = {f"module {module.id}": facts, "origin": origin, "figures": figures}
    return [*(_entries(title, entries) for title, entries in parts.items() if entries), _norms(module)]


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
    """Per layer: |z|, and for gates |w| and b."""
    vectors = [name for name in ("z", "w") if name in module.tensors]
    table = Table(box=None)
    for header in ("layer", *(f"|{name}|" for name in vectors), *(["b"] if "b" in module.tensors else [])):
        table.add_column(header, justify="right")
    for i, layer in enumerate(module.layers):
        values = [float(module.tensors[name][i].norm()) for name in vectors]
        values += [float(module.tensors["b"][i])] if "b" in module.tensors else []
        table.add_row(str(layer), *(f"{value:.4g}" for value in values))
    return table


def ranges(layers: tuple[int, ...]) -> str:
    """`0-5` for consecutive layers, else a list."""
    consecutive = len(layers) > 1 and layers == tuple(range(layers[0], layers[0] + len(layers)))
    return f"{layers[0]}-{layers[-1]}" if consecutive else ", ".join(map(str, layers))
