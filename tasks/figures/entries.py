"""The rows of the table of figures before they are rows: a method's figures in one repetition, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psr.evaluation.bootstrap import Figure, over_seeds
from psr.types import INSTRUCTED, PLAIN, Method
from tasks.figures.sides import WITH_PROMPT, Side
from tasks.figures.strengths import Judged, Strength, Subject

UNSTEERED = {PLAIN: "plain", INSTRUCTED: "prompt"}
LIKELIHOOD = "likelihood"  # the judge that measures what some objectives fit (psr/judges/likelihood.py)
FACTS = ("scope", "form", "objective", "span", "layer")
Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One method's figures on one attribute with one seed. facts: the columns that say whose they are."""

    facts: Mapping[str, Any]
    seed: int
    figures: Mapping[str, Figure | None]

    @property
    def key(self) -> tuple[str, str]:
        return self.facts["attribute"], self.facts["method"]


class Figured(Judged, Protocol):
    """A benchmark as the figures see it."""

    @property
    def strength(self) -> Strength: ...


def entries(
    benchmark: Figured,
    attribute: str,
    run: int,
    modules: Iterable[Row],
    search: Side,
    evaluation: Side,
    draws: Mapping[str, int],
) -> Iterator[Entry]:
    """One repetition of an attribute: plain, prompt, every module, and those that answered on top of the prompt.

    run: its seed; modules: rows of modules.parquet; draws: resamples and seed. Figures keep their resampled values: two
    methods of one seed, or of all seeds, can be compared by psr.evaluation.bootstrap.paired.
    """
    model = evaluation.completions[0].model
    subjects = [(unsteered_facts(attribute, model, name), Subject(name, False, None)) for name in (PLAIN, INSTRUCTED)]
    for row in modules:
        facts = module_facts(row, judge=evaluation.judge)
        subjects.append((facts, Subject(row["id"], True, None)))
        if evaluation.of(row["id"] + WITH_PROMPT):
            facts = module_facts(row, judge=evaluation.judge, with_prompt=True)
            subjects.append((facts, Subject(row["id"] + WITH_PROMPT, False, 1.0)))
    for position, (facts, subject) in enumerate(subjects):
        yield Entry(
            {**facts, "position": position},
            run,
            benchmark.strength.measure(benchmark, subject, search, evaluation, draws),
        )


def unsteered_facts(attribute: str, model: str, method: str) -> Row:
    """The plain model or the prompt."""
    name = UNSTEERED[method]
    return {
        **_whose(attribute, model),
        "method": name,
        "name": name,
        **dict.fromkeys((*FACTS, "module")),
        "favoured": False,
    }


def module_facts(row: Mapping[str, Any], *, judge: str = "", with_prompt: bool = False) -> Row:
    """A module of modules.parquet, alone or on top of the prompt (METHOD+prompt). judge: the id of whoever rated it."""
    method = Method.of(row)
    slug, name = (f"{method.slug}+prompt", f"{method.name} + prompt") if with_prompt else (method.slug, method.name)
    return {
        **_whose(row["attribute"], row["model"]),
        "method": slug,
        "name": name,
        **{n: row[n] for n in FACTS},
        "module": row["id"],
        "favoured": judge == LIKELIHOOD and row["fits_likelihoods"],
    }


def _whose(attribute: str, model: str) -> Row:
    return {"benchmark": attribute.partition("/")[0], "model": model, "attribute": attribute}


def seed_rows(entries: Sequence[Entry]) -> list[Row]:
    """A row a figure of every entry."""
    return [{**entry.facts, "seed": entry.seed, **row} for entry in entries for row in _rows(entry.figures)]


def mean_rows(entries: Sequence[Entry]) -> list[Row]:
    """A row a method, attribute and figure: means over seeds; `module` only where all seeds have the same one."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    return [row for group in groups.values() for row in _mean_rows(group)]


def _mean_rows(group: Sequence[Entry]) -> Iterator[Row]:
    modules = {entry.facts["module"] for entry in group}
    module = modules.pop() if len(modules) == 1 else None
    figures: dict[str, Figure | None] = {}
    for name in dict.fromkeys(name for entry in group for name in entry.figures):
        measured = [figure for entry in group if (figure := entry.figures.get(name)) is not None]
        figures[name] = over_seeds(measured) if measured else None
    for row in _rows(figures):
        yield {**group[0].facts, "module": module, "seeds": len(group), **row}


def _rows(figures: Mapping[str, Figure | None]) -> Iterator[Row]:
    columns = ("value", "low", "high", "alpha", "coherence", "reached", "n", "n_unscored")
    for name, figure in figures.items():
        if figure is not None:
            yield {"figure": name, **{column: known(getattr(figure, column)) for column in columns}}


def known(value: Any) -> Any:
    """nan is how arrays say "not known"; tables say it with an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value
