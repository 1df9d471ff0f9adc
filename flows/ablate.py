"""What a single layer needs to do what the prompt does: `python -m flows.ablate [--profile quick] [--attribute NAME ...]
[--variant NAME ...] [--seeds 3]`.

Beyond the paper: rank, objective, warm start and layer of a one-layer PSR, each over seeds, against the prompt. Works on a
finished profile's triplets, and makes those of attributes that the profile lacks. Stored in data/PROFILE/ablation and in the
view `ablation`; measured rows are looked up when it runs again, so it may be stopped at any time. No stage of DVC's.
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
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.locks import reproducing
from tasks.studies.ablation.material import wanted_attributes
from tasks.studies.ablation.study import Study, study_of
from tasks.studies.ablation.table import ablation_rows, ablation_table, store, summary
from tasks.studies.ablation.variants import Variant, grid, parse_variant

WIDE = 200  # columns where nobody watches


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured, whatever came out. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    told = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _ablate(root, told), "Stopped. What was measured is kept: run it again to go on.")


def _ablate(root: Path, told: argparse.Namespace) -> None:
    seeds, settings = _seeds(told.seeds), params.load(root / params.FILE, told.profile)
    named = tuple(dict.fromkeys(parse_variant(name) for name in told.variant))
    data, profile, model = (
        root / "data" / told.profile,
        settings.model_dump(),
        ModelPlace(**settings.model.model_dump()),
    )
    os.chdir(root)  # the parameters' paths begin here
    attributes = wanted_attributes(profile, told.attribute)
    with reproducing(root, f"python -m flows.ablate --profile {told.profile}", wait=True, say=print):
        lm = open_model(model)
        variants = named or grid(range(lm.n_layers), settings.distill.layer)
        for variant in variants:
            variant.layers(lm.n_layers)
        _keep(root, data, study_of(root, data, profile, attributes, model, seeds), variants, settings.report.title)
    _show(data)


def _keep(root: Path, data: Path, study: Study, variants: Sequence[Variant], title: str) -> None:
    """Store every row as soon as it is there; then the view, and the profile's report with the figures in it."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    for row in study.rows(variants):
        store(data, [row])
    rebuild(root)
    if (data / "results/headline.parquet").is_file():  # a profile that never ran has no report
        build_beside(data, title)


def _show(data: Path) -> None:
    rows, console = ablation_rows(data), Console() if sys.stdout.isatty() else Console(width=WIDE)
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        console.print(ablation_table(rows, benchmark))
        print(summary(rows, benchmark), flush=True)


def _seeds(count: int) -> tuple[int, ...]:
    """1, 2, 3, …: repetitions of fit and answers both."""
    if count < 1:
        raise PsrError(
            "nothing can be fitted fewer times than once",
            where="--seeds",
            expected="a whole number of at least 1",
            got=count,
        )
    return tuple(range(1, count + 1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.ablate", description="What one layer needs to do what the prompt does."
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="whose parameters and triplets to use (default: %(default)s)"
    )
    parser.add_argument(
        "--attribute",
        action="append",
        default=[],
        metavar="NAME",
        help="pirate, or ifeval/startend:quotation; may be given again (default: the profile's)",
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME",
        help="METHOD@LAYER, with +delta for a warm start, as s-psr4-kl-qr@2+delta; may be given again",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="repetitions, of fit and answers both (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
