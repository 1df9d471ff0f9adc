"""Planning the steps, and running one: a function of its context and its sections, alone or as a Prefect sub-flow.

Prefect persists and caches nothing: DVC decides what runs, and tasks exchange only paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from flows import params
from flows.sections import Profile
from flows.settings import check_questions, missing, resolved
from flows.storage import settled
from psr.errors import PsrError
from tasks.engine.cells import HOME, Cells
from tasks.engine.context import StepContext
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import Pipeline, Step, opened, to_do
from tasks.engine.progress import say, speaking
from tasks.engine.repair import keep, repair
from tasks.engine.runners import Runner, prefect, serial
from tasks.engine.timings import timed


@contextmanager
def planned(
    root: Path,
    profile: str,
    about: str,
    *,
    wait: bool,
    changes: Sequence[str] = (),
    dry_run: bool = False,
    share: bool = False,
) -> Iterator[tuple[Profile, Pipeline, tuple[Step, ...]]]:
    """Yields the profile's parameters with `changes`, the open pipeline and its planned steps, holding the lock.

    Parameters are read under the lock, so that a run that waited for it uses the current ones. share: see `opened`.
    Raises PsrError for parameters, inputs or questions that cannot be run."""
    with reproducing(root, about, wait=wait, say=say):
        repair(root, say)
        settings = params.load(root, profile, changes)
        with opened(root, share=share) as pipeline:
            for path in missing(root, settings) if share else ():
                pipeline.fetch(path)
            settings = settled(root, settings, dry_run=dry_run)
            with resolved(root, profile, settings, pipeline, dry_run=dry_run):
                steps = pipeline.plan(profile)
                if ahead := to_do(steps):
                    absent = missing(root, settings) if dry_run else ()
                    judging = not dry_run and any("judge" in step.sections for step in ahead)
                    check_questions(settings, absent, judging=judging)
                keep(root)
                yield settings, pipeline, steps


def run_in_process(root: Path, profile: str, step: Step, settings: Profile) -> None:
    """Run a step in this process, without a server."""
    _work(root, profile, step, settings, serial)


def run_as_flow(root: Path, profile: str, step: Step, settings: Profile, runner: Runner = prefect) -> None:
    """Run a step as a sub-flow of the current flow. Its version is that of its code, its parameters are its sections."""
    from prefect import flow, get_run_logger
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    def work(profile: str, parameters: dict[str, Any]) -> None:
        with speaking(step.flow, get_run_logger()):
            _work(root, profile, step, settings, runner)

    body = _body(step)
    sub_flow = flow(
        name=step.flow,
        version=step.code,
        flow_run_name=step.name,
        description=body.__doc__,
        persist_result=False,
        validate_parameters=False,
    )(work)
    shown = {name: settings.model_dump(mode="json")[name] for name in step.sections}
    # heartbeats tell a permanent server that a flow is alive, and delay its end by a second
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        sub_flow(profile, shown)


def _work(root: Path, profile: str, step: Step, settings: Profile, runner: Runner) -> None:
    out = root / step.folder
    out.mkdir(parents=True, exist_ok=True)
    context = StepContext(root, profile, step.flow, out, step.deps, Cells(root / HOME, step.code), runner)
    with timed(root, step.name):
        _body(step)(context, **{name: getattr(settings, name) for name in step.sections})


def _body(step: Step) -> Callable[..., None]:
    unknown = [name for name in step.sections if name not in params.section_names()]
    if unknown:
        raise PsrError(
            f"step {step.flow} names unknown parameters {', '.join(unknown)}",
            where="dvc.yaml",
            expected=f"sections among {', '.join(params.section_names())}",
        )
    return getattr(import_module(f"flows.{step.flow}"), step.flow)
