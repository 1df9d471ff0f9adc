"""The rows of a benchmark's table before they are rows: a method's figures in one repetition, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psr.evaluation.bootstrap import Figure, over_seeds
from psr.fitting.methods import parse_method
from psr.types import INSTRUCTED, PLAIN

UNSTEERED = {PLAIN: "plain", INSTRUCTED: "prompt"}
FACTS = ("scope", "form", "objective", "span", "layer")
Figures = Mapping[str, Figure | None]
Columns = Callable[[Figures], dict[str, Any]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One method's figures on one attribute with one seed. facts: the columns that say whose they are."""

    facts: Mapping[str, Any]
    seed: int
    figures: Figures

    @property
    def key(self) -> tuple[str, str]:
        return self.facts["attribute"], self.facts["method"]


def unsteered_facts(attribute: str, model: str, method: str) -> Row:
    """The plain model or the prompt."""
    name = UNSTEERED[method]
    return {**_place(attribute, model), "method": name, "name": name, **dict.fromkeys((*FACTS, "module"))}


def module_facts(row: Mapping[str, Any], *, with_prompt: bool = False) -> Row:
    """A module of modules.parquet, alone or on top of the prompt (METHOD+prompt)."""
    method = parse_method(row["method"])
    slug, name = (f"{method.slug}+prompt", f"{method.name} + prompt") if with_prompt else (method.slug, method.name)
    return {
        **_place(row["attribute"], row["model"]),
        "method": slug,
        "name": name,
        **{n: row[n] for n in FACTS},
        "module": row["id"],
    }


def _place(attribute: str, model: str) -> Row:
    return {"benchmark": attribute.partition("/")[0], "model": model, "attribute": attribute}


def seed_rows(entries: Sequence[Entry], columns: Columns) -> list[Row]:
    """A row an entry."""
    return [{**entry.facts, "seed": entry.seed, **columns(entry.figures)} for entry in entries]


def mean_rows(entries: Sequence[Entry], columns: Columns) -> list[Row]:
    """A row a method and attribute: means over seeds; `module` only where all seeds have the same one."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    return [_mean_row(group, columns) for group in groups.values()]


def _mean_row(group: Sequence[Entry], columns: Columns) -> Row:
    figures: dict[str, Figure | None] = {}
    for name in group[0].figures:
        known = [figure for entry in group if (figure := entry.figures[name]) is not None]
        figures[name] = over_seeds(known) if known else None
    modules = {entry.facts["module"] for entry in group}
    module = modules.pop() if len(modules) == 1 else None
    return {**group[0].facts, "module": module, "seeds": len(group), **columns(figures)}


def known(value: Any) -> Any:
    """nan is how arrays say "not known"; tables say it with an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value
