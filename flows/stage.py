"""One stage as a process: `python -m flows.stage distill --profile quick`, the command of every stage in dvc.yaml.

Exit status 0: done. 2: something the user can mend, said in one line. 1: anything else, with its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

from flows import environment, params
from psr.errors import PsrError
from tasks.engine import timings, warm, watch
from tasks.engine.disk import disk_error
from tasks.engine.dvc_file import StageSpec, stage_spec
from tasks.engine.inputs import changes, read_inputs
from tasks.engine.place import Place
from tasks.engine.scratch import scratch
from tasks.engine.server import server


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage that the arguments name, and say in .psr/timings how it ended."""
    told = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    watch.follow()
    status = warm.hand_over([told.stage, "--profile", told.profile])
    if status is not None:
        return status
    try:
        timing = timings.begin(root, f"{told.stage}@{told.profile}", os.environ.get(timings.RUN, ""))
    except OSError as error:
        return _refuse(disk_error(error) or PsrError(f"{type(error).__name__}: {error}"))
    try:
        run(root, told.stage, told.profile)
    except BaseException as error:
        problem = error if isinstance(error, PsrError) else disk_error(error)
        timings.end(
            root,
            timing,
            str(problem or f"{type(error).__name__}: {error}"),
            retry=may_pass(error),
            input_error=problem is not None,
        )
        if isinstance(error, KeyboardInterrupt):
            return 130
        if problem is not None:
            return _refuse(problem)
        traceback.print_exception(error)
        return 1
    timings.end(root, timing)
    return 0


def run(root: Path, stage: str, profile: str) -> None:
    """Run the flow of `stage` with the sections that dvc.yaml names for it; refuse if they changed meanwhile."""
    spec = stage_spec(root, stage, profile)
    settings = params.load(root / params.FILE, profile)
    before = read_inputs(root, spec.deps, _dump(settings, spec))
    out = root / spec.folder
    out.mkdir(parents=True, exist_ok=True)
    with server(root), scratch(root, spec.address, before.key) as kept:
        flow = getattr(import_module(f"flows.{stage}"), stage)
        place = Place(root, profile, stage, out, spec.deps, kept)
        with without_heartbeats():
            flow(place, **{name: getattr(settings, name) for name in spec.sections})
        changed = changes(before, _dump(params.load(root / params.FILE, profile), spec))
        if changed:
            raise PsrError(
                f"the inputs of {spec.address} changed while it ran",
                where=", ".join(changed[:5]),
                do="Run again: its outputs would be recorded as made from what the files say now.",
            )


def without_heartbeats() -> AbstractContextManager[object]:
    """Prefect's, which tell a server that stays that a flow still lives, and hold its end up by a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


def may_pass(error: BaseException) -> bool:
    """Whether the same again may go well: not for what the user has to mend, and not for a bug."""
    if isinstance(error, PsrError) or disk_error(error) is not None:
        return bool(getattr(error, "retryable", False))
    return isinstance(error, OSError | EOFError | MemoryError) or type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpcore",
        "websockets",
        "sqlalchemy",
        "sqlite3",
    )


def _dump(settings: params.Profile, spec: StageSpec) -> dict[str, Any]:
    unknown = [name for name in spec.sections if name not in params.section_names()]
    if unknown:
        raise PsrError(
            f"stage {spec.name} names unknown parameters {', '.join(unknown)}",
            where="dvc.yaml",
            expected=f"sections among {', '.join(params.section_names())}",
        )
    return {name: value for name, value in settings.model_dump(mode="json").items() if name in spec.sections}


def _refuse(problem: PsrError) -> int:
    print(problem, file=sys.stderr, flush=True)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.stage", description="Run one stage of one profile.")
    parser.add_argument("stage")
    parser.add_argument("--profile", default=params.DEFAULT_PROFILE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
