"""The main command: `python -m flows.reproduce [--profile quick] [--set distill.epochs=6] [--dry-run]`.

DVC says what is stale; those steps run one after the other in this process, with a Prefect server that ends with the
run. A run that was stopped continues where it was. Their cells are computed here, or by workers: `--runner dask`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from flows import environment, params
from flows.doors import answered
from flows.estimate import cost_lines, plan_table, total_line
from flows.sections import Profile
from flows.settings import plugs
from flows.steps import planned
from psr.errors import PsrError
from tasks.engine.cells import sizes
from tasks.engine.clusters import PACKAGES, Chosen, check_installed, started
from tasks.engine.pipeline import Pipeline, Step, to_do
from tasks.engine.progress import say
from tasks.engine.runners import Runner, conditions, prefect
from tasks.engine.server import server
from tasks.engine.timings import seconds_of
from tasks.shown import publish
from tasks.shown.figures import figure_tables
from tasks.shown.tables import terminal

SERIAL = "serial"
WIDE = 160  # columns without a terminal
BEGAN = time.monotonic()  # monotonic: the system's clock may be corrected meanwhile


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: done. 1: a step failed. 2: something the user can mend. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return answered(
        lambda: _reproduce(
            root, args.profile, args.set, _chosen(args), dry_run=args.dry_run, wait=not (args.no_wait or args.dry_run)
        ),
        "Stopped. What was finished is kept: run again to go on.",
    )


def _reproduce(
    root: Path, profile: str, changes: Sequence[str], chosen: Chosen | None, *, dry_run: bool, wait: bool
) -> None:
    params.load(root, profile, changes)  # refused before waiting for the lock
    about = " ".join([f"python -m flows.reproduce --profile {profile}", *(f"--set {change}" for change in changes)])
    planning = planned(root, profile, about, wait=wait, changes=changes, dry_run=dry_run)
    with planning as (settings, pipeline, steps):
        total = total_line(root, steps, settings)
        if dry_run:
            _console().print(plan_table(root, steps, settings))
            for line in cost_lines(root, settings):
                say(line)
            say(total)
        elif not to_do(steps):
            say(f"Nothing to do: all {len(steps)} steps of {profile} are up to date.")
            publish.index(root, profile)
            publish.track(root, profile)
            _show(root, profile)
        else:
            say(f"{profile}: {len(to_do(steps))} of {len(steps)} steps to run. {total}")
            with _runner(root, chosen, settings) as runner:
                ran = _run(root, pipeline, profile, steps, settings, runner)
            _show(root, profile)
            say(overhead_line(root, ran))
            say(cells_line(root))


def _chosen(args: argparse.Namespace) -> Chosen | None:
    """The workers that the arguments ask for, None for this process. Raises PsrError for arguments that do not fit."""
    chosen = Chosen(args.runner, args.cluster, args.workers)
    if args.runner == SERIAL:
        if chosen != Chosen(SERIAL):
            raise PsrError("--cluster and --workers are for --runner dask or ray", do="Name the runner too.")
        return None
    if args.cluster and args.workers:
        raise PsrError(
            "--workers starts workers on this machine, and --cluster names running ones", do="Give one of them."
        )
    if args.workers is not None and args.workers < 1:
        raise PsrError("--workers is a number of processes", expected="1 or more", got=str(args.workers))
    check_installed(args.runner)
    return chosen


@contextmanager
def _runner(root: Path, chosen: Chosen | None, settings: Profile) -> Iterator[Runner]:
    """The runner of the steps' cells; workers end with the context."""
    if chosen is None:
        yield prefect
        return
    from tasks.asking.models import ModelSettings

    model = ModelSettings(**settings.model.model_dump())
    with started(
        chosen, conditions(root, plugs(settings)), threads=model.threads, gpu=model.device == "cuda"
    ) as workers:
        yield workers.runner()


def _run(
    root: Path, pipeline: Pipeline, profile: str, steps: tuple[Step, ...], settings: Profile, runner: Runner
) -> list[str]:
    """Run the stale steps with a Prefect server; the names of the steps that ran."""
    computes = any(step.computes for step in to_do(steps))
    with server(root, meanwhile=lambda: _probe(settings) if computes else None) as url:
        say(f"Prefect at {url.removesuffix('/api')} while this runs")
        from flows.pipeline import reproduce_planned

        states = reproduce_planned(root, pipeline, profile, steps, settings, runner)
    return [name for name, state in states.items() if state == "Completed"]


def _probe(settings: Profile) -> None:
    from tasks.asking.models import ModelSettings
    from tasks.doctor.model import check_model

    check_model(ModelSettings(**settings.model.model_dump()))


def overhead_line(root: Path, ran: Sequence[str]) -> str:
    """A line with the run's seconds and the share spent outside the steps."""
    wall = time.monotonic() - BEGAN
    rest = wall - sum(seconds_of(root, name) or 0.0 for name in ran)
    share = f"{rest:.0f} s, {100 * rest / wall:.0f} %"
    return f"{wall:.0f} s in all; orchestration (wall time outside the steps' own work): {share}"


def cells_line(root: Path) -> str:
    """A line with the number and size of the cells."""
    count, size = map(sum, zip(*(sizes(root) or {"": (0, 0)}).values(), strict=True))
    return f"{count} finished parts kept in .psr/cells, {size / 1e6:.0f} MB (python -m flows.cells)"


def _show(root: Path, profile: str) -> None:
    for table in figure_tables(root / "data" / profile):
        _console().print(terminal(table))


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.reproduce", description="Bring a profile's results up to date."
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="a profile of params.yaml (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for this run, such as distill.epochs=6; may be given again",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan with counts, sizes and an estimate; run nothing"
    )
    parser.add_argument(
        "--runner",
        choices=(SERIAL, *PACKAGES),
        default=SERIAL,
        help="what computes the cells of the steps: this process, or workers of Dask or Ray (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="the address of a running Dask or Ray cluster, such as tcp://head:8786"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="so many workers on this machine (default: as many as its cores or GPUs allow)",
    )
    parser.add_argument("--no-wait", action="store_true", help="when another reproduction runs here, say so and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
