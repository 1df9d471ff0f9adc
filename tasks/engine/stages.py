"""Running a stage from the parent flow: DVC in a process group of its own, its lines streamed, its end understood."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from psr.errors import PsrError
from psr.types import short_hash
from tasks.engine import timings, watch
from tasks.engine.bars import relay, say
from tasks.engine.planning import Step
from tasks.engine.repair import keep
from tasks.engine.scratch import discard
from tasks.engine.server import check_server

GENTLE = 2.0  # seconds between asking a stage to end and ending it

_computing = threading.Lock()  # two stages' threads on the same cores spin against each other: tenfold the time of both
_live: dict[int, subprocess.Popen[str]] = {}
_stopping = threading.Event()


class StageFailed(PsrError):
    """A stage ended badly. retryable: the same again may pass. input_error: the user has to mend something first."""

    def __init__(self, what: str, *, retryable: bool, input_error: bool, **context: object) -> None:
        self.retryable, self.input_error = retryable, input_error
        super().__init__(what, **context)  # type: ignore[arg-type]


def _may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.retryable and not _stopping.is_set()


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=_may_pass)
def run_stage(root: Path, step: Step) -> State[None]:
    """Bring one stage up to date. State "Cached" when DVC had nothing to run, "Completed" when it ran."""
    if step.state == "cached":
        return Completed(name="Cached", message="up to date")
    with _computing if step.computes else nullcontext():
        ran = reproduce_stage(root, step.name, say)
    return Completed(message="ran") if ran else Completed(name="Cached", message="up to date")


def reproduce_stage(root: Path, stage: str, say: Callable[[str, str], None]) -> bool:
    """Run DVC on one stage; says each of its lines. Returns whether the stage's command ran. Raises StageFailed."""
    if _stopping.is_set():
        raise StageFailed(
            f"{stage} was not started", retryable=False, input_error=False, do="The run is being stopped."
        )
    check_server()
    attempt = short_hash(stage, os.getpid(), time.time_ns())
    process = _start(root, stage, attempt)
    try:
        last = ""
        for line in process.stdout or ():
            last = line.rstrip() or last
            say(stage, line.rstrip())
        status = process.wait()
    finally:
        _live.pop(process.pid, None)
        end_group(process)
    timing = timings.read_timing(root, stage)
    ran = timing if timing is not None and timing.run == attempt else None
    if status == 0:
        keep(root)
        discard(root, stage)
        return ran is not None
    raise _failure(stage, status, ran, last)


def _start(root: Path, stage: str, attempt: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.engine.dvc_repro", stage],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=True,
        env={
            **os.environ,
            timings.RUN: attempt,
            watch.PARENT: watch.identity(os.getpid()),
            "PYTHONUNBUFFERED": "1",
            **relay(),
        },
    )
    _live[process.pid] = process
    return process


def _failure(stage: str, status: int, ran: timings.Timing | None, last: str) -> StageFailed:
    if _stopping.is_set():
        return StageFailed(f"{stage} was stopped", retryable=False, input_error=False)
    if ran is None:  # DVC itself: a lock, a missing dependency, a full disk
        busy = "lock" in last or "busy" in last
        return StageFailed(f"{stage} could not be started by DVC", got=last, retryable=busy, input_error=not busy)
    if ran.state == "running":
        return StageFailed(
            f"{stage} was killed from outside",
            got=f"status {status}",
            retryable=True,
            input_error=False,
            do="If memory ran out, lower the batch sizes in params.yaml.",
        )
    if ran.state == "done":
        return StageFailed(
            f"{stage} ran but DVC could not keep its outputs", got=last, retryable=False, input_error=True
        )
    return StageFailed(f"{stage} failed: {ran.error}", retryable=ran.retry, input_error=ran.input_error)


def stop_all() -> None:
    """End every stage that runs, and let none start. For the way out only: begin() undoes it."""
    _stopping.set()
    running = list(_live.values())
    for process in running:
        _signal(process, signal.SIGTERM)
    end = time.monotonic() + GENTLE
    while time.monotonic() < end and any(process.poll() is None for process in running):
        time.sleep(0.05)
    for process in running:
        _signal(process, signal.SIGKILL)


def begin() -> None:
    """Allow stages to start (again)."""
    _stopping.clear()


def end_group(process: subprocess.Popen[str]) -> None:
    """Leave nothing of the process's group behind."""
    _signal(process, signal.SIGKILL)
    if process.stdout:
        process.stdout.close()
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group has ended
        os.killpg(process.pid, number)
