"""The whole paper by one command: `python -m flows.reproduce [--profile quick] [--dry-run] [--no-wait]`.

What is up to date is read from DVC before anything starts; the rest runs stage by stage, side by side where stages do not
need each other, under one Prefect server that ends with the run. Stopped at any moment, it goes on from there next time.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import psutil
from rich.console import Console

from flows import environment, params
from flows.estimate import plan_table, total_line
from psr.errors import PsrError
from tasks.asking.models import ModelPlace, check_model
from tasks.engine.disk import disk_error
from tasks.engine.locks import reproducing
from tasks.engine.planning import Step, plan, to_do
from tasks.engine.repair import keep, repair
from tasks.engine.server import server
from tasks.engine.timings import covered, read_timing
from tasks.engine.warm import warm
from tasks.shown.headline import benchmark_tables, headline_rows, headline_table

WIDE = 160  # columns where nobody watches


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: done. 1: a stage failed. 2: something the user can mend. 130: stopped by Ctrl-C."""
    told = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _reproduce(root, told.profile, dry_run=told.dry_run, wait=not (told.no_wait or told.dry_run))
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
        steps = plan(root, profile)
        keep(root)
        if dry_run:
            return _show(root, steps, settings)
        if not to_do(steps):
            return _up_to_date(root, profile, steps)
        _say(f"{profile}: {len(to_do(steps))} of {len(steps)} stages to run. {total_line(root, steps, settings)}")
        _run(root, profile, steps, ModelPlace(**settings.model.model_dump()))
    return 0


def _run(root: Path, profile: str, steps: tuple[Step, ...], model: ModelPlace) -> None:
    began = time.time()
    with ThreadPoolExecutor(1) as beside, warm(root):
        computes = any(step.computes for step in to_do(steps))
        probe = beside.submit(check_model, model) if computes else None  # takes less long than the server's start
        with server(root) as url:
            if probe is not None:
                probe.result()
            _say(f"Prefect at {url.removesuffix('/api')} while this runs")
            from flows.pipeline import reproduce

            states = reproduce(profile, planned=[asdict(step) for step in steps])
    _headline(root, profile)
    _say(overhead_line(root, [name for name, state in states.items() if state != "Cached"], began))


def overhead_line(root: Path, ran: Sequence[str], began: float) -> str:
    """How long the run took since this process started, and which share of it was not the stages' own work.

    Work that stages did side by side counts once; each stage's is taken as its last seconds.
    """
    wall = time.time() - psutil.Process().create_time()
    known = [timing for name in ran if (timing := read_timing(root, name)) and timing.started >= began]
    work = covered([(timing.ended - timing.work, timing.ended) for timing in known])
    return (
        f"{wall:.0f} s in all; orchestration (wall time outside the stages' own work): {wall - work:.0f} s, "
        f"{100 * (wall - work) / wall:.0f} %"
    )


def _up_to_date(root: Path, profile: str, steps: Sequence[Step]) -> int:
    _say(f"Nothing to do: all {len(steps)} stages of {profile} are up to date.")
    from tasks.engine.publish import publish

    publish(root, profile, steps)
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
