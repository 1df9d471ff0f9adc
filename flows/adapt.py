"""Prompt, steering, LoRA and full fine-tuning compared: `python -m flows.adapt [--profile quick] [--attribute NAME]`.

All on the same triplets of a finished profile, on its questions, with its sampling, seeds and judge. Prompt and modules are
taken from its tables; LoRA and full fine-tuning are fitted here, once an attribute, for a few epochs
(tasks/studies/adaptation/adapters.py says how many), and brought to the prompt's coherence by scaling what they learned.
Stored in data/PROFILE/adaptation, in the view `adaptation` and in a report. No stage of DVC's: seconds are no outputs
that come out equal.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flows import environment, params
from flows.doors import answered
from psr.answers.pairs import sampling_seeds
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.engine.locks import reproducing
from tasks.studies.adaptation.material import NEEDED, Told, load, wanted
from tasks.studies.adaptation.rows import rows_of
from tasks.studies.adaptation.table import adaptation_table, store
from tasks.studies.bench.material import check_finished

WIDE = 200  # columns where nobody watches


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: compared. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    told = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _compare(root, told), "Stopped. What was finished is stored.")


def _compare(root: Path, told: argparse.Namespace) -> None:
    settings, data = params.load(root / params.FILE, told.profile), root / "data" / told.profile
    check_finished(data, told.profile, NEEDED, "the comparison")
    os.chdir(root)  # the parameters' paths begin here
    attributes = wanted(attributes_of(settings.benchmarks), told.attribute)
    model = ModelPlace(**{**settings.model.model_dump(), "device": told.device or settings.model.device})
    judge = judges_named(settings.judge.name, attributes)["persona"]
    rows: list[dict[str, Any]] = []
    with reproducing(root, f"python -m flows.adapt --profile {told.profile}", wait=True, say=print):
        for case in load(data, model, attributes, judge, _told(settings)):
            rows += rows_of(case)
            _keep(root, data, rows, settings.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(adaptation_table(rows))


def _told(settings: params.Profile) -> Told:
    """The profile's first repetition: its fit seed and its sampling seeds."""
    seed, search, steer = settings.seeds[0], settings.search, settings.steer
    searched, evaluated = (sampling_seeds(settings.seeds, one.seed, one.samples)[seed] for one in (search, steer))
    return Told(
        seed,
        searched,
        evaluated,
        *(section.model_dump() for section in (settings.sampling, settings.distill, search, steer, settings.results)),
    )


def _keep(root: Path, data: Path, rows: list[dict[str, Any]], title: str) -> None:
    """The table, its view, and the profile's report with the comparison in it."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    store(data, rows)
    rebuild(root)
    build_beside(data, title)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.adapt",
        description="Compare prompt, steering, LoRA and full fine-tuning on the same triplets.",
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)"
    )
    parser.add_argument(
        "--attribute",
        action="append",
        default=[],
        metavar="NAME",
        help="only this attribute of persona; may be given again; the others' rows stay",
    )
    parser.add_argument("--device", help="as torch names it (default: the profile's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
