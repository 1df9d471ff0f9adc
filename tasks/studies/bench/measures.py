"""The measures of the bench by name, and running them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from psr.errors import PsrError
from tasks.studies.bench.material import Material, machine

MEASURES = {  # name of figures measured together -> module in this package, function, repeats
    "fit": ("fitting", "fit_speed", 5),
    "layers": ("fitting", "fit_layers", 5),
    "alpha": ("alpha", "alpha_search", 1),  # counts tokens and calls
    "generate": ("running", "steered_generation", 31),
    "wide": ("running", "wide_generation", 31),
    "joint": ("fitting", "joint_fitting", 3),
    "scale": ("fitting", "many_modules", 1),  # 500 modules: minutes
    "store": ("fitting", "eight_bits", 5),
    "record": ("running", "recording", 31),
    "company": ("company", "company", 7),
}


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The measures called `names`; all for no names. Raises PsrError that lists the known ones."""
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
    """The rows of the table `bench` of the measures called `names`, in one process. repeats: instead of each one's own.

    Shows a progress bar on a terminal.
    """
    facts, rows = machine(material.lm), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    watched = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not watched) as bar:
        for name in names:
            file, function, pairs = MEASURES[name]
            pairs = pairs if repeats is None else repeats
            task = bar.add_task(f"bench {name}", total=pairs)
            figures = getattr(import_module(f"tasks.studies.bench.{file}"), function)
            part = replace(material, repeats=pairs, advance=partial(bar.advance, task))
            rows += [{**figure.row(), **facts} for figure in figures(part)]
            bar.remove_task(task)
    return rows
