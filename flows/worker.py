"""The flow that a Prefect worker runs, as prefect.yaml deploys it: in a clone of the repository that is deleted afterwards.

    bring        each stale step's outputs, as far as DVC's default remote has them
    reproduce    the rest; every finished step's outputs go to the remote at once
    hand back    what git keeps of the run, as a commit on a branch `psr/run-…` of the origin, or as a patch in an artifact

Finished parts of a step, and DVC's cache, lie in a folder that outlives the clone: below PSR_WORKER_HOME, or ~/.cache/psr.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prefect import flow, get_run_logger, tags
from prefect.artifacts import create_markdown_artifact
from prefect.settings import PREFECT_API_URL
from prefect.states import Failed
from pydantic import Field

from flows import environment, params
from psr.errors import PsrError
from tasks.engine.handover import Branch, branch_of, keep, kept_folder
from tasks.engine.progress import say, speaking
from tasks.engine.watch import watched

if TYPE_CHECKING:
    from tasks.engine.pipeline import Step

HOME = "PSR_WORKER_HOME"
PROFILES = list(params.profiles(environment.repository()))
OVERRIDES = "What this run sets otherwise, as KEY=VALUE: distill.epochs=6"


@flow(name="reproduce", flow_run_name="reproduce-{profile}", persist_result=False)
def reproduce(
    profile: Annotated[str, Field(description="A profile of params.yaml", json_schema_extra={"enum": PROFILES})] = (
        params.DEFAULT_PROFILE
    ),
    overrides: Annotated[list[str], Field(description=OVERRIDES)] = [],  # noqa: B006
) -> dict[str, str]:
    """Bring every step of a profile up to date on a worker, and hand the results back to the team."""
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    try:
        return _reproduce(root, profile, overrides)
    except PsrError as error:  # its line is the state's message; Prefect would log a traceback
        with speaking("", get_run_logger()):
            say(str(error))
        return Failed(message=str(error))  # type: ignore[return-value]  # Prefect takes it as the state


def _reproduce(root: Path, profile: str, overrides: list[str]) -> dict[str, str]:
    from flows.pipeline import run_id, run_steps
    from flows.steps import planned
    from tasks.asking.models import ModelSettings
    from tasks.doctor.model import check_model
    from tasks.engine.checkout import commit as commit_of

    home = Path(os.environ.get(HOME) or Path.home() / ".cache" / "psr")
    keep(root, kept_folder(root, home))
    branch = branch_of(root, f"psr/run-{time.strftime('%Y%m%d-%H%M')}-{profile}-{run_id().hex[-8:]}")
    about = " ".join([f"Reproduce {profile} on a worker", *overrides])
    with (
        watched(PREFECT_API_URL.value()),
        speaking("", get_run_logger()),
        tags(profile, commit_of(root).removeprefix("at ")),
        planned(root, profile, about, wait=True, changes=overrides, share=True) as (settings, pipeline, steps),
        handed_back(branch, about) as hand_back,
    ):
        probe = partial(check_model, ModelSettings(**settings.model.model_dump()))
        return run_steps(root, pipeline, profile, steps, settings, first=probe, after=hand_back)


@contextmanager
def handed_back(branch: Branch, about: str) -> Iterator[Callable[[Step], None]]:
    """Yields a function to call after each step; what is finished is handed back then, and at the end however it comes."""
    finished: list[str] = []

    def after(step: Step) -> None:
        finished.append(step.name)
        if commit := branch.commit(f"{about}: {len(finished)} steps, and not at its end"):
            branch.push(commit)  # a failure is said at the end

    end = "stopped"
    try:
        yield after
        end = "finished"
    finally:
        if commit := branch.commit(f"{about}: {end} after {', '.join(finished) or 'no step'}"):
            _deliver(branch, commit)
        else:
            say("git keeps nothing new of this run")


def _deliver(branch: Branch, commit: str) -> None:
    """Push the run's commit; where that is refused, put it into an artifact."""
    problem = branch.push(commit)
    if not problem:
        say(f"handed back to the origin as branch {branch.name}")
        return
    key = "".join(c if c.isalnum() else "-" for c in branch.name.lower())
    create_markdown_artifact(
        f"Apply it by `git am`.\n\n````diff\n{branch.patch(commit)}\n````",
        key=key,
        description="What git keeps of the run",
    )
    say(f"the origin does not take branch {branch.name} ({problem}): the commit is a patch in the artifact {key}")
