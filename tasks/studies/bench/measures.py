"""Everything the bench measures, by name, and one run over it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from psr.errors import PsrError
from tasks.studies.bench.material import Material, machine
from tasks.studies.bench.pairs import Figure


class Measure(NamedTuple):
    """One or more figures that are measured together, by a function of a file beside this one. pairs: its repeats."""

    file: str
    function: str
    pairs: int

    def __call__(self, material: Material) -> list[Figure]:
        return list(getattr(import_module(f"tasks.studies.bench.{self.file}"), self.function)(material))


MEASURES = {
    "fit": Measure("fitting", "fit_speed", 5),
    "layers": Measure("fitting", "fit_layers", 5),
    "alpha": Measure("alpha", "alpha_search", 1),  # counted, not timed
    "generate": Measure("running", "steered_generation", 31),
    "wide": Measure("running", "wide_generation", 31),
    "joint": Measure("fitting", "joint_fitting", 3),
    "scale": Measure("fitting", "many_modules", 1),  # 500 modules: minutes
    "store": Measure("fitting", "eight_bits", 5),
    "record": Measure("running", "recording", 31),
    "company": Measure("company", "company", 7),
}


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The measures called `names`, all of them without any. Raises PsrError that lists the known ones."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise PsrError(
            "no such measure",
            where="--only",
            expected=f"some of {', '.join(MEASURES)}",
            got=", ".join(map(repr, unknown)),
            do="Correct the name.",
        )
    return tuple(name for name in MEASURES if name in names) or tuple(MEASURES)


def measure(material: Material, names: Sequence[str], repeats: int | None) -> list[dict[str, Any]]:
    """The rows of the table `bench` of the measures called `names`, in one process. repeats: None, or for all of them.

    A bar in a terminal shows how far each is.
    """
    facts, rows = machine(material.lm), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    watched = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not watched) as bar:
        for name in names:
            pairs = MEASURES[name].pairs if repeats is None else repeats
            task = bar.add_task(f"bench {name}", total=pairs)
            figures = MEASURES[name](replace(material, repeats=pairs, advance=partial(bar.advance, task)))
            bar.remove_task(task)
            rows += [{**figure.row(), **facts} for figure in figures]
    return rows
