"""The Prefect flow over all steps, as `python -m flows.reproduce` runs it. A worker's is in flows/worker.py."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, tags, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.sections import Profile
from flows.steps import run_as_flow
from psr.errors import PsrError
from tasks.engine.checkout import commit
from tasks.engine.disk import disk_error
from tasks.engine.history import End, recorder
from tasks.engine.pipeline import Pipeline, Step
from tasks.engine.progress import say, speaking
from tasks.engine.runners import Runner, prefect
from tasks.engine.watch import state_of, watched
from tasks.shown import publish
from tasks.shown.figures import figure_tables

ENDS: dict[str, End] = {"Cached": "cached", "Restored": "restored", "Completed": "ran"}


class StepFailed(PsrError):
    """A step failed. input_error: because of something that the user has to mend."""

    def __init__(self, what: str, *, input_error: bool) -> None:
        self.input_error = input_error
        super().__init__(what)


def reproduce_planned(
    root: Path, pipeline: Pipeline, profile: str, steps: tuple[Step, ...], settings: Profile, runner: Runner = prefect
) -> dict[str, str]:
    """Bring every step of `profile` up to date, then the index and the tracker. runner: of the steps' cells."""

    def run(profile: str) -> dict[str, str]:
        with watched(os.environ["PREFECT_API_URL"], state_of(run_id())) as cancelled:
            try:
                return run_steps(root, pipeline, profile, steps, settings, runner)
            except BaseException:
                if cancelled.is_set():
                    return Cancelled(message="What was finished is kept.")  # type: ignore[return-value]  # Prefect takes it as the state
                raise

    named = flow(
        name="reproduce", flow_run_name="reproduce-{profile}", description=reproduce_planned.__doc__, persist_result=False
    )(run)  # fmt: skip
    with tags(profile, commit(root).removeprefix("at ")):
        try:
            return named(profile)
        except CancelledRun:
            raise SystemExit(128 + signal.SIGTERM) from None


def run_id() -> UUID:
    """The id of the flow run that this is called in."""
    return UUID(flow_run.id)


def run_steps(
    root: Path,
    pipeline: Pipeline,
    profile: str,
    steps: tuple[Step, ...],
    settings: Profile,
    runner: Runner = prefect,
    *,
    first: Callable[[], object] = lambda: None,
    after: Callable[[Step], object] = lambda step: None,
) -> dict[str, str]:
    """Run each stale step as a sub-flow and record it, then update the index, the tracker and the artifacts.

    first(): called before the first step that really runs the model. after(step): called when a step is recorded.
    Returns step -> "Cached", "Restored" or "Completed". Stops at the first step that fails.
    """
    states: dict[str, str] = {}
    first = cache(first)
    with speaking("", get_run_logger()):
        pipeline.record(pipeline.step(f"settings@{profile}"))
        record = recorder(root, profile, settings.model.device)
        for step in steps:
            with record.step(step.flow, partial(pipeline.outputs, step)) as ended:
                states[step.name] = _brought(root, pipeline, profile, step, settings, runner, first)
                ended(ENDS[states[step.name]])
            after(step)
        record.close()
        shown = task(cache_policy=NO_CACHE, persist_result=False)
        shown(publish.index)(root, profile)
        shown(publish.track)(root, profile)
        _artifacts(root, profile, steps)
    return states


def _brought(
    root: Path,
    pipeline: Pipeline,
    profile: str,
    step: Step,
    settings: Profile,
    runner: Runner,
    first: Callable[[], object],
) -> str:
    """Bring one step up to date. Returns how, as in `run_steps`."""
    if step.state == "cached" or not pipeline.changed(step):
        return "Cached"
    for reason in (reason for reason in step.reasons if reason.endswith("by hand")):
        say(f"{step.name}: {reason}, and is made again")
    if pipeline.restored(step):
        say(f"{step.name}: brought back from DVC's cache")
        return "Restored"
    if step.computes:
        first()
    pipeline.clear(step)
    with pipeline.unchanged(step):
        _run(root, profile, step, settings, runner)
    pipeline.record(step)
    return "Completed"


def _run(root: Path, profile: str, step: Step, settings: Profile, runner: Runner) -> None:
    """Run one step as a sub-flow. Raises StepFailed."""
    try:
        run_as_flow(root, profile, step, settings, runner)
    except Exception as error:
        if stop := _stopped(error):
            raise stop from error
        problem = error if isinstance(error, PsrError) else disk_error(error)
        if problem is None:
            traceback.print_exception(error, file=sys.stdout)
        what = f"{step.name} failed: {problem or f'{type(error).__name__}: {error}'}"
        raise StepFailed(what, input_error=problem is not None) from error


def _stopped(error: BaseException | None) -> BaseException | None:
    """The Ctrl-C or SIGTERM behind an error: Prefect raises another error while it creates a task run."""
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__cause__ or error.__context__
    return error


def _artifacts(root: Path, profile: str, steps: tuple[Step, ...]) -> None:
    key = "".join(c if c.isalnum() else "-" for c in profile.lower())
    for table in figure_tables(root / "data" / profile)[:1]:
        rows: list[dict[str, Any]] = [dict(zip(table.head, row, strict=True)) for row in table.rows]
        create_table_artifact(table=rows, key=f"headline-{key}", description=f"{table.head[0]}, profile {profile}.")
    page = next((step.folder / "index.html" for step in steps if step.flow == "report"), None)
    if page is not None and (root / page).exists():
        create_link_artifact(link=page.as_posix(), link_text=page.as_posix(), key=f"report-{key}",
                             description="The report, in the repository.")  # fmt: skip
