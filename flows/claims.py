"""The paper's seven claims, each with a verdict: `python -m flows.claims [--profile quick]`.

Works on the outputs of a finished profile and runs no model. Stored in data/PROFILE/claims and in the view `claims`, and
shown in that folder's report. No stage of DVC's, like flows.bench: nothing in the pipeline waits for a verdict.
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
from tasks.engine.locks import reproducing
from tasks.studies.claims.table import check_finished, claims_table, measure, questions, store

WIDE = 190  # columns where nobody watches


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured, whatever came out. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    told = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _claims(root, told.profile), "Stopped. Nothing was stored.")


def _claims(root: Path, profile: str) -> None:
    settings, data = params.load(root / params.FILE, profile), root / "data" / profile
    check_finished(data, profile)
    os.chdir(root)
    drawn = [
        {"resamples": section.resamples, "seed": section.seed} for section in (settings.results, settings.faithfulness)
    ]
    with reproducing(root, f"python -m flows.claims --profile {profile}", wait=True, say=print):
        rows = store(data, measure(data, profile, *drawn))
        _show(root, data, settings.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(claims_table(rows))
    print("\n" + "\n".join(questions(rows)), flush=True)


def _show(root: Path, data: Path, title: str) -> None:
    """The view, and the profile's report with the claims in it."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    rebuild(root)
    build_beside(data, title)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.claims", description="Test the paper's claims on a finished profile."
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
