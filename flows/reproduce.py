"""The whole paper by one command: `python -m flows.reproduce [--profile quick] [--dry-run] [--no-wait]`.

What is up to date is read from DVC before anything starts; the rest runs step by step in this process, with one Prefect
server beside it that ends with the run. Stopped at any moment, it goes on from there next time.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil
from rich.console import Console

from flows import environment, params
from flows.estimate import plan_table, total_line
from psr.errors import PsrError
from tasks.engine.cells import sizes
from tasks.engine.disk import disk_error
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import Pipeline, Step, opened, to_do
from tasks.engine.repair import keep, repair
from tasks.engine.server import server
from tasks.engine.timings import seconds_of
from tasks.shown import publish
from tasks.shown.headline import benchmark_tables, headline_rows, headline_table

WIDE = 160  # columns where nobody watches


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: done. 1: a stage failed. 2: something the user can mend. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _reproduce(root, args.profile, dry_run=args.dry_run, wait=not (args.no_wait or args.dry_run))
    except (KeyboardInterrupt, SystemExit) as stop:
        status = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
        return _refuse("Stopped. What was finished is kept: run again to go on.", status)
    except PsrError as error:
        return _refuse(str(error), 2 if getattr(error, "input_error", True) else 1)
    except OSError as error:
        problem = disk_error(error)
        if problem is None:
            raise
        return _refuse(str(problem), 2)


def _reproduce(root: Path, profile: str, *, dry_run: bool, wait: bool) -> int:
    settings = params.load(root / params.FILE, profile)
    params.check_attributes(root, settings)
    with reproducing(root, f"python -m flows.reproduce --profile {profile}", wait=wait, say=_say):
        repair(root, _say)
        with opened(root) as pipeline:
            steps = pipeline.plan(profile)
            for step in steps:
                params.check_watched(settings, step.sections, step.deps)
            keep(root)
            if dry_run:
                return _show(root, steps, settings)
            if not to_do(steps):
                return _up_to_date(root, profile, steps)
            _say(f"{profile}: {len(to_do(steps))} of {len(steps)} steps to run. {total_line(root, steps, settings)}")
            _run(root, pipeline, profile, steps, settings)
    return 0


def _run(root: Path, pipeline: Pipeline, profile: str, steps: tuple[Step, ...], settings: params.Profile) -> None:
    computes = any(step.computes for step in to_do(steps))
    with server(root, meanwhile=lambda: _probe(settings) if computes else None) as url:
        _say(f"Prefect at {url.removesuffix('/api')} while this runs")
        from flows.pipeline import reproduce_planned

        states = reproduce_planned(root, pipeline, profile, steps, settings)
    _headline(root, profile)
    _say(overhead_line(root, [name for name, state in states.items() if state == "Completed"]))
    _say(cells_line(root))


def _probe(settings: params.Profile) -> None:
    from tasks.asking.models import ModelPlace
    from tasks.doctor.model import check_model

    check_model(ModelPlace(**settings.model.model_dump()))


def overhead_line(root: Path, ran: Sequence[str]) -> str:
    """How long the run took since this process started, and which share of it was not the steps' own work."""
    wall = time.time() - psutil.Process().create_time()
    rest = wall - sum(seconds_of(root, name) or 0.0 for name in ran)
    return (
        f"{wall:.0f} s in all; orchestration (wall time outside the steps' own work): {rest:.0f} s, "
        f"{100 * rest / wall:.0f} %"
    )


def cells_line(root: Path) -> str:
    """How much the finished parts take that a next run may use."""
    count, size = (sum(column) for column in zip(*sizes(root).values(), strict=True)) if sizes(root) else (0, 0)
    return f"{count} finished parts kept in .psr/cells, {size / 1e6:.0f} MB (python -m flows.cells)"


def _up_to_date(root: Path, profile: str, steps: Sequence[Step]) -> int:
    _say(f"Nothing to do: all {len(steps)} steps of {profile} are up to date.")
    publish.index(root, profile)
    publish.track(root, profile)
    _headline(root, profile)
    return 0


def _show(root: Path, steps: Sequence[Step], settings: params.Profile) -> int:
    console = _console()
    console.print(plan_table(root, steps, settings))
    _say(total_line(root, steps, settings))
    return 0


def _headline(root: Path, profile: str) -> None:
    rows = headline_rows(root, profile)
    if rows:
        _console().print(headline_table(rows))
    for table in benchmark_tables(root, profile):
        _console().print(table)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def _say(line: str) -> None:
    print(line, flush=True)


def _refuse(line: str, status: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return status


def _terminate(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.reproduce", description="Bring a profile's results up to date."
    )
    parser.add_argument(
        "--profile", default=params.DEFAULT_PROFILE, help="a section of params.yaml (default: %(default)s)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan with counts, sizes and an estimate; run nothing"
    )
    parser.add_argument("--no-wait", action="store_true", help="when another reproduction runs here, say so and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
