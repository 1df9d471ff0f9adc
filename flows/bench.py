"""How fast psr is on this machine: `python -m flows.bench [--profile quick] [--only NAME] [--repeats N] [--device cpu]`.

Every figure is a ratio: what is measured against what it has to keep up with, timed in turn in one process, on the
triplets and modules of a finished profile. A whole run is stored in data/PROFILE/bench and in the view `bench`; with
--only it is printed alone. No stage of DVC's: timings are no outputs that come out equal.
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
from psr.errors import PsrError
from tasks.asking.models import ModelPlace
from tasks.engine.locks import reproducing
from tasks.studies.bench.material import check_finished, load
from tasks.studies.bench.measures import MEASURES, chosen, measure
from tasks.studies.bench.table import bench_table, machine_line, store

WIDE = 160  # columns where nobody watches


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured, whatever came out. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    told = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _bench(root, told), "Stopped. Nothing was stored.")


def _bench(root: Path, told: argparse.Namespace) -> None:
    names, repeats = chosen(told.only), _repeats(told.repeats)
    settings, data = params.load(root / params.FILE, told.profile), root / "data" / told.profile
    check_finished(data, told.profile)
    os.chdir(root)  # the parameters' paths begin here
    model = ModelPlace(**{**settings.model.model_dump(), "device": told.device or settings.model.device})
    with reproducing(root, f"python -m flows.bench --profile {told.profile}", wait=True, say=print):
        rows = measure(load(data, model, settings.search.model_dump()), names, repeats)
        if not told.only:
            _keep(root, data, rows, settings.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(bench_table(rows))
    print(machine_line(rows[0]) + (" Not stored: --only." if told.only else ""), flush=True)


def _keep(root: Path, data: Path, rows: list[dict[str, Any]], title: str) -> None:
    """The table, its view, and the profile's report with the figures in it."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    store(data, rows)
    rebuild(root)
    build_beside(data, title)


def _repeats(told: int | None) -> int | None:
    if told is not None and told < 1:
        raise PsrError(
            "nothing can be timed fewer times than once",
            where="--repeats",
            expected="a whole number of at least 1",
            got=told,
        )
    return told


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.bench", description="Measure the speed of psr on this machine, as ratios."
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help=f"{', '.join(MEASURES)}; may be given again"
    )
    parser.add_argument(
        "--repeats", type=int, help="alternating pairs a figure (default: 5 to 31, as the figure needs)"
    )
    parser.add_argument("--device", help="as torch names it (default: the profile's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
