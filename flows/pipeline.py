"""The Prefect flow over all steps, which `python -m flows.reproduce` runs and a deployment schedules.

Its parameter is the profile's name; the repository is that of this file, so that a worker can run it from any folder.
"""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, tags, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import environment, params
from flows.sections import Profile
from flows.steps import planned, run_as_flow
from psr.errors import PsrError
from tasks.asking.models import ModelSettings
from tasks.doctor.model import check_model
from tasks.engine.checkout import commit
from tasks.engine.disk import disk_error
from tasks.engine.history import End, recorder
from tasks.engine.pipeline import Pipeline, Step, to_do
from tasks.engine.progress import say, speaking
from tasks.engine.runners import Runner, prefect
from tasks.shown import publish
from tasks.shown.figures import figure_tables

ENDS: dict[str, End] = {"Cached": "cached", "Restored": "restored", "Completed": "ran"}


@flow(name="reproduce", flow_run_name="reproduce-{profile}", persist_result=False)
def reproduce(profile: str = params.DEFAULT_PROFILE) -> dict[str, str]:
    """Bring every step of `profile` up to date, then the index and the tracker. Raises PsrError during another run."""
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    with planned(root, profile, f"reproduction of {profile}", wait=False) as (settings, pipeline, steps):
        if any(step.computes for step in to_do(steps)):
            check_model(ModelSettings(**settings.model.model_dump()))
        with tags(profile, commit(root).removeprefix("at ")):
            return run_steps(root, pipeline, profile, steps, settings)


class StepFailed(PsrError):
    """A step failed. input_error: because of something that the user has to mend."""

    def __init__(self, what: str, *, input_error: bool) -> None:
        self.input_error = input_error
        super().__init__(what)


def reproduce_planned(
    root: Path, pipeline: Pipeline, profile: str, steps: tuple[Step, ...], settings: Profile, runner: Runner = prefect
) -> dict[str, str]:
    """The same flow over planned steps, while the caller holds the repository's lock. runner: of the steps' cells."""

    def run(profile: str) -> dict[str, str]:
        return run_steps(root, pipeline, profile, steps, settings, runner)

    named = flow(
        name="reproduce", flow_run_name="reproduce-{profile}", description=reproduce.__doc__, persist_result=False
    )(run)  # fmt: skip
    with tags(profile, commit(root).removeprefix("at ")):
        return named(profile)


def run_steps(
    root: Path, pipeline: Pipeline, profile: str, steps: tuple[Step, ...], settings: Profile, runner: Runner = prefect
) -> dict[str, str]:
    """Run each stale step as a sub-flow and record it, then update the index, the tracker and the artifacts.

    Returns step -> "Cached", "Restored" or "Completed". Stops at the first step that fails.
    """
    with speaking("", get_run_logger()):
        pipeline.record(pipeline.step(f"settings@{profile}"))
        record = recorder(root, profile, settings.model.device)
        states: dict[str, str] = {}
        for step in steps:
            with record.step(step.flow, partial(pipeline.outputs, step)) as ended:
                states[step.name] = _brought(root, pipeline, profile, step, settings, runner)
                ended(ENDS[states[step.name]])
        record.close()
        shown = task(cache_policy=NO_CACHE, persist_result=False)
        shown(publish.index)(root, profile)
        shown(publish.track)(root, profile)
        _artifacts(root, profile, steps)
    return states


def _brought(root: Path, pipeline: Pipeline, profile: str, step: Step, settings: Profile, runner: Runner) -> str:
    """Bring one step up to date. Returns how, as in `run_steps`."""
    if step.state == "cached" or not pipeline.changed(step):
        return "Cached"
    for reason in (reason for reason in step.reasons if reason.endswith("by hand")):
        say(f"{step.name}: {reason}, and is made again")
    if pipeline.restored(step):
        say(f"{step.name}: brought back from DVC's cache")
        return "Restored"
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
