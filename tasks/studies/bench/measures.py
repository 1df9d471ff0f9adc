"""Everything the bench measures, by name, and one run over it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from tasks.studies.bench.machine import machine

if TYPE_CHECKING:
    from tasks.studies.bench.figures import Figure
    from tasks.studies.bench.material import Material


@dataclass(frozen=True)
class Measure:
    """One or more figures that are measured together. door: where the function is; pairs: how many repeats it takes."""

    door: str
    pairs: int

    def __call__(self, material: Material) -> list[Figure]:
        module, _, function = self.door.partition(":")
        found: list[Figure] = getattr(import_module(module), function)(material)
        return found


MEASURES = {
    "fit": Measure("tasks.studies.bench.fitting:fit_speed", 5),
    "layers": Measure("tasks.studies.bench.fitting:fit_layers", 5),
    "alpha": Measure("tasks.studies.bench.alpha:alpha_search", 1),  # counted, not timed
    "generate": Measure("tasks.studies.bench.generation:steered_generation", 31),
    "wide": Measure("tasks.studies.bench.generation:wide_generation", 31),
    "joint": Measure("tasks.studies.bench.joint:joint_fitting", 3),
    "scale": Measure("tasks.studies.bench.joint:many_modules", 1),  # 500 modules: minutes
    "store": Measure("tasks.studies.bench.stores:eight_bits", 5),
    "record": Measure("tasks.studies.bench.recording:recording", 31),
    "company": Measure("tasks.studies.bench.company:company", 7),
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
    """The rows of the table `bench` of the measures called `names`, in one process. repeats: None, or for all of them."""
    facts, rows = machine(material.lm), []
    for name in names:
        pairs = MEASURES[name].pairs if repeats is None else repeats
        with _bar(name, pairs) as advance:
            figures = MEASURES[name](replace(material, repeats=pairs, advance=advance))
        rows += [{**figure.row(), **facts} for figure in figures]
    return rows


@contextmanager
def _bar(name: str, pairs: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal; anywhere else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        row = bar.add_task(f"bench {name}", total=pairs)
        yield lambda n: bar.advance(row, n)
