"""The command that measures side effects: `python -m flows.side_effects [--profile quick] [--attribute NAME] [--method SLUG]`.

What the prompt and its modules change besides what they are for, where their effects are equal: drift on unrelated questions,
format instructions obeyed, language, length, and effect and coherence in each turn of a conversation whose key-value
cache is kept. Works on a finished profile with all its repetitions; a module's strength comes from the recorded search and is
tried again. Stored in data/PROFILE/side_effects, which DVC keeps, in the view `side_effects` and in the report; finished
answers are kept, so it may be stopped at any time.
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
from tasks.engine.cells import HOME, Cells
from tasks.engine.lockfiles import code_of
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.shown.studies import side_effects_table
from tasks.shown.tables import terminal
from tasks.studies import CODE
from tasks.studies.bench.material import check_finished
from tasks.studies.side_effects.material import NEEDED, Size, load, wanted
from tasks.studies.side_effects.rows import rows_of
from tasks.studies.side_effects.table import store

WIDE = 200  # columns without a terminal


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _measure(root, args), "Stopped. What was answered is kept: run it again to go on.")


def _measure(root: Path, args: argparse.Namespace) -> None:
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    profile, data = params.load(root, args.profile), root / "data" / args.profile
    check_finished(data, args.profile, NEEDED, "the comparison")
    os.chdir(root)  # the parameters' paths are relative to it
    settings, size = profile.model_dump(), Size(args.questions, args.conversations, args.turns)
    attributes = wanted(settings, args.attribute)
    model = ModelSettings(**{**profile.model.model_dump(), "device": args.device or profile.model.device})
    cells = Cells(root / HOME, code_of(root, *CODE, "tasks/studies/side_effects"))
    rows: list[dict[str, Any]] = []
    with reproducing(root, f"python -m flows.side_effects --profile {args.profile}", wait=True, say=print):
        for case in load(data, settings, model, attributes, size, cells):
            own = rows_of(case, args.method)
            rows += own
            store(data, own)
        add_output(root, data / "side_effects")
        rebuild(root)
        build_beside(data, profile.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(side_effects_table(rows)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.side_effects",
        description="What the prompt and its modules change besides what they are for, at equal effect.",
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)")
    add("--attribute", action="append", default=[], metavar="NAME",
        help="only this attribute; may be given again; the others' rows stay")  # fmt: skip
    add("--method", action="append", default=[], metavar="SLUG",
        help="a method as parameters name it; may be given again; the control is the first one's (default: A-PSR MSE and "
        "A-Const MSE, those that the profile has)")  # fmt: skip
    add("--questions", type=int, default=12,
        help="unrelated questions; of format instructions there are twice as many (default: %(default)s)")  # fmt: skip
    add("--conversations", type=int, default=6, help="conversations a repetition (default: %(default)s)")
    add("--turns", type=int, default=10, help="turns of each (default: %(default)s)")
    add("--device", help="as torch names it (default: the profile's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
