"""The flow over all stages: what `python -m flows.reproduce` runs, and what a deployment runs on a schedule.

Parameters are JSON-able and the repository is found from this file, so that a worker can run it from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture, wait
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import ThreadPoolTaskRunner

from flows import environment, params
from tasks.asking.models import ModelPlace, check_model
from tasks.engine.locks import reproducing
from tasks.engine.planning import Step, plan, to_do
from tasks.engine.publish import index, open_tracker, sources, track
from tasks.engine.repair import keep, repair
from tasks.engine.stages import StageFailed, begin, run_stage, stop_all
from tasks.engine.warm import warm

SIDE_BY_SIDE = 4


@flow(
    name="reproduce",
    flow_run_name="reproduce-{profile}",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=SIDE_BY_SIDE),
)  # type: ignore[arg-type]
def reproduce(
    profile: str = params.DEFAULT_PROFILE,
    wait_for_others: bool = True,
    planned: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, str]:
    """Bring every stage of `profile` up to date, then the index and the tracker.

    planned: tasks.engine.planning's steps as mappings, where they were planned just now.
    Returns stage -> "Cached" or "Completed". Raises StageFailed for the first stage that could not be brought there.
    """
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    if PREFECT_API_URL.value():
        os.environ["PREFECT_API_URL"] = PREFECT_API_URL.value()  # the stages report to the same server
    settings = params.load(root / params.FILE, profile)
    with reproducing(root, f"reproduction of {profile}", wait=wait_for_others, say=print), warm(root):
        if planned is not None:
            return run_steps(root, profile, tuple(Step(**step) for step in planned))
        repair(root, print)
        steps = plan(root, profile)
        keep(root)
        if any(step.computes for step in to_do(steps)):
            check_model(ModelPlace(**settings.model.model_dump()))
        return run_steps(root, profile, steps)


def run_steps(root: Path, profile: str, steps: tuple[Step, ...]) -> dict[str, str]:
    """Start every step when what it needs is done, index and tracker beside the last; leave no process behind."""
    begin()
    tracker = open_tracker.submit(root, profile)  # type: ignore[call-overload]
    futures: dict[str, PrefectFuture[Any]] = {}
    try:
        for step in steps:
            task = run_stage.with_options(task_run_name=step.name)
            futures[step.name] = task.submit(root, step, wait_for=[futures[name] for name in step.needs])  # type: ignore[call-overload]
        names = sources(steps)
        ready = [futures[name] for name in names]
        filled: list[PrefectFuture[Any]] = [
            index.submit(root, names, wait_for=ready),  # type: ignore[call-overload]
            track.submit(root, profile, names, wait_for=[*ready, tracker]),  # type: ignore[call-overload]
        ]
        wait([*futures.values(), *filled])
    except BaseException:
        stop_all()
        raise
    for future in [*futures.values(), *filled]:
        if future.state.is_failed() or future.state.is_crashed():
            future.result(raise_on_failure=True)
    unfinished = [name for name, future in futures.items() if not future.state.is_completed()]
    if unfinished:
        raise StageFailed(f"{', '.join(unfinished)} did not run", retryable=True, input_error=False)
    return {name: str(future.state.name) for name, future in futures.items()}
