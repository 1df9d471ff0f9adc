"""The command that compares prompt, steering, LoRA and full fine-tuning: `python -m flows.adapt [--profile quick]
[--attribute NAME]`.

All use the same triplets of a finished profile, its questions, sampling, seeds and judge. Prompt and modules come from its
tables; LoRA and full fine-tuning are fitted by this command, once an attribute, for a few epochs
(tasks/studies/adaptation/adapters.py), and scaled to the prompt's coherence. Stored in data/PROFILE/adaptation, which DVC
keeps, in the view `adaptation` and in the report. No step of the pipeline, since no two runs take the same seconds.
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
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.cells import HOME, Cells
from tasks.engine.lockfiles import code_of
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.shown.studies import adaptation_table
from tasks.shown.tables import terminal
from tasks.studies import CODE
from tasks.studies.adaptation.material import NEEDED, load, wanted
from tasks.studies.adaptation.rows import rows_of
from tasks.studies.adaptation.table import store
from tasks.studies.bench.material import check_finished

WIDE = 200  # columns without a terminal


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: compared. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.adapt",
        description="Compare prompt, steering, LoRA and full fine-tuning on the same triplets.",
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)")
    add("--attribute", action="append", default=[], metavar="NAME",
        help="only this attribute of persona; may be given again; the others' rows stay")  # fmt: skip
    add("--device", help="as torch names it (default: the profile's)")
    args = parser.parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _compare(root, args), "Stopped. What was finished is stored.")


def _compare(root: Path, args: argparse.Namespace) -> None:
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    profile, data = params.load(root, args.profile), root / "data" / args.profile
    check_finished(data, args.profile, NEEDED, "the comparison")
    os.chdir(root)  # the parameters' paths are relative to it
    attributes = wanted(attributes_of(profile.benchmarks), args.attribute)
    model = ModelSettings(**{**profile.model.model_dump(), "device": args.device or profile.model.device})
    cells = Cells(root / HOME, code_of(root, *CODE, "tasks/studies/adaptation"))
    rows: list[dict[str, Any]] = []
    with reproducing(root, f"python -m flows.adapt --profile {args.profile}", wait=True, say=print):
        for case in load(data, profile.model_dump(), model, attributes):
            rows += rows_of(case, cells)
            store(data, rows)
        add_output(root, data / "adaptation")
        rebuild(root)
        build_beside(data, profile.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(adaptation_table(rows)))


if __name__ == "__main__":
    sys.exit(main())
