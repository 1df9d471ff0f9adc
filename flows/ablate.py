"""The command of the ablation, what PSR needs to match the prompt: `python -m flows.ablate [--profile quick]
[--attribute NAME ...] [--variant NAME ...] [--seeds 3]`.

Beyond the paper: rank, objective, warm start and layer of a one-layer PSR, the number of triplets, and negatives, over seeds,
against the prompt: its effect, and its drift at that effect. Uses a finished profile's triplets, and makes those of attributes
that the profile lacks. Stored in data/PROFILE/ablation, which DVC keeps, and in the view `ablation`; finished measurements are
kept, so it may be stopped at any time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows import environment, params
from flows.doors import answered
from psr.errors import PsrError
from tasks.asking.models import ModelSettings, open_model
from tasks.engine.cells import HOME, Cells
from tasks.engine.lockfiles import code_of
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.shown.studies import ablation_table, spared_table
from tasks.shown.tables import terminal
from tasks.studies import CODE
from tasks.studies.ablation.material import subjects, wanted_attributes
from tasks.studies.ablation.study import Study
from tasks.studies.ablation.table import ablation_rows, spared, store, summary
from tasks.studies.ablation.variants import FORM, grid, parse_variant

WIDE = 200  # columns without a terminal


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _ablate(root, args), "Stopped. What was measured is kept: run it again to go on.")


def _ablate(root: Path, args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise PsrError(
            "nothing can be fitted fewer times than once",
            where="--seeds",
            expected="a whole number of at least 1",
            got=args.seeds,
        )
    profile, data = params.load(root, args.profile), root / "data" / args.profile
    named = tuple(dict.fromkeys(parse_variant(name) for name in args.variant))
    settings, model = profile.model_dump(), ModelSettings(**profile.model.model_dump())
    os.chdir(root)  # the parameters' paths are relative to it
    attributes = wanted_attributes(settings, args.attribute)
    cells = Cells(root / HOME, code_of(root, *CODE, "tasks/studies/ablation"))
    with reproducing(root, f"python -m flows.ablate --profile {args.profile}", wait=True, say=print):
        layers = open_model(model).n_layers
        variants = named or grid(range(layers), profile.distill.layer)
        for variant in variants:
            variant.layers(layers)  # raises before anything is measured
        seeds = tuple(range(1, args.seeds + 1))  # each of both fit and answers
        study = Study(subjects(data, settings, attributes, model, cells), settings, model, seeds, cells)
        for row in study.rows(variants):
            store(data, [row])
        _publish(root, data, profile.report.title)
    _show(data)


def _publish(root: Path, data: Path, title: str) -> None:
    """Add the folder to DVC, and update the view and the profile's report."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    add_output(root, data / "ablation")
    rebuild(root)
    if (data / "results/figures.parquet").is_file():  # a profile that never ran has no report
        build_beside(data, title)


def _show(data: Path) -> None:
    rows, console = ablation_rows(data), Console() if sys.stdout.isatty() else Console(width=WIDE)
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        console.print(terminal(ablation_table(rows, benchmark)))
        print(summary(rows, benchmark))
        console.print(terminal(spared_table(rows, benchmark)))
        print(*spared(rows, benchmark), sep="\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.ablate", description="What PSR needs to do what the prompt does, and at what drift."
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose parameters and triplets to use (default: %(default)s)")
    add("--attribute", action="append", default=[], metavar="NAME",
        help="pirate, or ifeval/startend:quotation; may be given again (default: the profile's)")  # fmt: skip
    add("--variant", action="append", default=[], metavar="NAME",
        help=f"{FORM}; may be given again (default: a grid of one-layer variants)")  # fmt: skip
    add("--seeds", type=int, default=3, help="repetitions, of fit and answers both (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
