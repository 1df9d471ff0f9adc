"""The command that measures the speed of psr on this machine: `python -m flows.bench [--profile quick]
[--only NAME] [--repeats N] [--device cpu]`.

Every figure is a ratio of an operation's speed to a reference's, both timed alternately in one process, on the triplets
and modules of a finished profile. A complete run is stored in data/PROFILE/bench and in the view `bench`; with --only it
is only printed. No step of the pipeline, since no two runs take the same seconds.
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
from tasks.asking.models import ModelSettings
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.shown.studies import bench_table, machine_line
from tasks.shown.tables import terminal
from tasks.studies.bench.material import check_finished, load
from tasks.studies.bench.measures import MEASURES, chosen, measure
from tasks.studies.bench.table import store

WIDE = 160  # columns without a terminal


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: measured. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.bench", description="Measure the speed of psr on this machine, as ratios."
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose outputs to work on (default: %(default)s)")
    add("--only", action="append", default=[], metavar="NAME", help=f"{', '.join(MEASURES)}; may be given again")
    add("--repeats", type=int, help="alternating pairs a figure (default: 1 to 31, as figure and model need)")
    add("--device", help="as torch names it (default: the profile's)")
    options = parser.parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _bench(root, options), "Stopped. Nothing was stored.")


def _bench(root: Path, options: argparse.Namespace) -> None:
    names = chosen(options.only)
    if options.repeats is not None and options.repeats < 1:
        raise PsrError(
            "nothing can be timed fewer times than once",
            where="--repeats",
            expected="a whole number of at least 1",
            got=options.repeats,
        )
    settings, data = params.load(root, options.profile), root / "data" / options.profile
    check_finished(data, options.profile)
    os.chdir(root)  # the parameters' paths are relative to it
    model = ModelSettings(**{**settings.model.model_dump(), "device": options.device or settings.model.device})
    with reproducing(root, f"python -m flows.bench --profile {options.profile}", wait=True, say=print):
        rows = measure(load(data, model, settings.search.model_dump()), names, options.repeats)
        if not options.only:
            from tasks.shown.index import rebuild
            from tasks.shown.report import build_beside

            store(data, rows)
            add_output(root, data / "bench")
            rebuild(root)
            build_beside(data, settings.report.title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(bench_table(rows)))
    print(machine_line(rows[0]) + (" Not stored: --only." if options.only else ""), flush=True)


if __name__ == "__main__":
    sys.exit(main())
