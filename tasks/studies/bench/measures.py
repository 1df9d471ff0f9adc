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

MEASURES = {  # name of figures measured together -> module in this package, function, repeats on a small model, on a large one
    "fit": ("fitting", "fit_speed", 5, 3),
    "layers": ("fitting", "fit_layers", 5, 0),  # 0: takes too long, unless it is asked for
    "alpha": ("alpha", "alpha_search", 1, 1),  # counts tokens and calls
    "generate": ("running", "steered_generation", 31, 7),
    "wide": ("running", "wide_generation", 31, 0),
    "serve": ("serving", "served_requests", 31, 7),
    "judge": ("judging", "likelihood_judging", 31, 5),
    "joint": ("fitting", "joint_fitting", 3, 0),
    "scale": ("fitting", "many_modules", 1, 0),  # 500 modules: minutes on a small model
    "store": ("fitting", "eight_bits", 5, 0),
    "record": ("running", "recording", 31, 9),
    "company": ("company", "company", 7, 0),
}


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The measures called `names`, in the table's order. Raises PsrError that lists the known ones."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise PsrError(
            "no such measure",
            where="--only",
            expected=f"some of {', '.join(MEASURES)}",
            got=", ".join(map(repr, unknown)),
            do="Correct the name.",
        )
    return tuple(name for name in MEASURES if name in names)


def measure(material: Material, names: Sequence[str], repeats: int | None) -> list[dict[str, Any]]:
    """The rows of the table `bench` of the measures called `names`, in one process; of none: all that suit the model's size.

    repeats: instead of each one's own. Shows a progress bar on a terminal.
    """
    facts, rows = machine(material.lm), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    watched = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not watched) as bar:
        for name in names or [name for name in MEASURES if MEASURES[name][2 + material.large]]:
            file, function, *pairs = MEASURES[name]
            timed = repeats or pairs[material.large] or 1
            task = bar.add_task(f"bench {name}", total=timed)
            figures = getattr(import_module(f"tasks.studies.bench.{file}"), function)
            part = replace(material, repeats=timed, advance=partial(bar.advance, task))
            rows += [{**figure.row(), **facts} for figure in figures(part)]
            bar.remove_task(task)
    return rows
