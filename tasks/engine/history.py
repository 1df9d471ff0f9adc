"""A record of every run: who ran what, when, on which commit and kind of machine, and what each step made.

    data/PROFILE/runs/20261126T210444Z-3f9a1c2b.json

Git keeps it, as it keeps dvc.lock. A run has a file of its own, so that the records of two people never conflict in a
merge. A record is written again whenever a step ends: one of a run that was killed lacks nothing but its last step. Nothing
that is computed depends on records, and DVC knows none of them.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from psr.errors import PsrError
from psr.types import short_hash
from tasks.engine.checkout import changed_files, git_user, head, restoring
from tasks.engine.files import parse_yaml, write_json
from tasks.engine.lockfiles import LOCKS, SETTINGS, recorded
from tasks.engine.progress import say

End = Literal["ran", "restored", "cached", "failed", "stopped"]
Outcome = Literal["completed", "failed", "stopped", "unfinished"]
Outputs = Mapping[str, str]  # path -> DVC's hash
PACKAGES = ("torch", "transformers", "tokenizers", "numpy")  # whose versions may change a figure
WRITTEN = (*LOCKS, "data/*/settings.yaml", "data/*/headline.json", "data/*/metrics.json", "data/*/runs/*.json")
SHELLS = ("sh", "bash", "dash", "zsh", "fish")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepRecord(_Frozen):
    """How a step ended: it ran, its outputs were restored from DVC's cache or were up to date, it failed or was stopped.

    seconds: all that it took. outputs: path -> DVC's hash; empty for a step that failed or was stopped."""

    end: End
    seconds: float = 0.0
    outputs: dict[str, str] = {}


class Run(_Frozen):
    """One run of a profile. began, ended: UTC. outcome: unfinished of a run that was killed.

    commit: the checkout's, None where there is none; changed: files that differ from it, or that it lacks, among those that
    decide what a run computes. host: a kind of machine, no name. settings: every parameter, resolved, and hashes of inputs."""

    id: str
    profile: str
    who: str
    began: datetime
    ended: datetime
    outcome: Outcome
    commit: str | None
    changed: tuple[str, ...]
    host: str
    packages: dict[str, str]
    settings: dict[str, Any]
    steps: dict[str, StepRecord] = {}

    @property
    def dirty(self) -> bool:
        """Whether no commit says alone what was run."""
        return self.commit is None or bool(self.changed)

    @property
    def file(self) -> Path:
        """Its file, below the repository."""
        return Path("data") / self.profile / "runs" / f"{self.began:%Y%m%dT%H%M%SZ}-{self.id}.json"


class Recorder:
    """Writes the record of one run while its steps end."""

    def __init__(self, root: Path, run: Run) -> None:
        self._root = root
        self.run = read(root / run.file) if (root / run.file).exists() else run

    @contextmanager
    def step(self, name: str, outputs: Callable[[], Outputs]) -> Iterator[Callable[[End], None]]:
        """Do a step in this context and call what it yields with how it ended; an exception is a step that failed or was stopped.

        outputs: asked once the step has ended well. Only a run in which a step ran, failed or was stopped has a file."""
        ends: list[End] = []
        began = time.monotonic()
        try:
            yield ends.append
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            self._add(name, StepRecord(end="stopped" if stopped else "failed", seconds=_since(began)))
            self._write("stopped" if stopped else "failed")
            raise
        self._add(name, StepRecord(end=ends[-1], seconds=_since(began), outputs=dict(outputs())))
        self._write("unfinished")

    def close(self) -> None:
        """Say that the run is complete."""
        self._write("completed")

    def _add(self, name: str, step: StepRecord) -> None:
        self.run = self.run.model_copy(update={"steps": {**self.run.steps, name: step}})

    def _write(self, outcome: Outcome) -> None:
        self.run = self.run.model_copy(update={"outcome": outcome, "ended": _now()})
        if {step.end for step in self.run.steps.values()} <= {"cached", "restored"}:
            return
        try:
            write_json(self._root / self.run.file, self.run.model_dump(mode="json"))
        except OSError as error:
            say(f"warning: the record of this run was not written ({error}). Results are complete without it.")


def recorder(root: Path, profile: str, device: str) -> Recorder:
    """A recorder of the run that begins. Under `dvc repro`, which starts a process a step, its steps share one record.

    device: the model's, which says whether the machine's GPU is named."""
    dvc = _caller() if "DVC_STAGE" in os.environ else None
    began = datetime.fromtimestamp(int(dvc.create_time()), UTC) if dvc else _now()
    settings = root / SETTINGS.format(profile=profile)
    return Recorder(root, Run(
        id=short_hash("dvc repro", dvc.pid, dvc.create_time())[:8] if dvc else uuid.uuid4().hex[:8],
        profile=profile, who=git_user(root) or getpass.getuser(), began=began, ended=began, outcome="unfinished",
        commit=head(root), changed=_changed(root), host=host_class(device), packages=_packages(),
        settings=parse_yaml(settings.read_text(encoding="utf-8")) if settings.exists() else {},
    ))  # fmt: skip


def runs(root: Path, profile: str = "*") -> tuple[Run, ...]:
    """The records of a profile, or of all, the oldest first. Raises PsrError for a damaged one."""
    records = [read(path) for path in (root / "data").glob(f"{profile}/runs/*.json")]
    return tuple(sorted(records, key=lambda run: (run.began, run.id)))


def makers(root: Path, profile: str) -> dict[str, Run]:
    """step -> the run that made what dvc.lock says of the step: the first that ran it and had these hashes.

    A step has none where that run left no record, or was done before there were any. Raises PsrError as `runs` does."""
    made: dict[str, Run] = {}
    locked = {
        step: {out["path"]: out["md5"] for out in entry.get("outs", ()) if "md5" in out}
        for step, entry in recorded(root, profile).items()
    }
    for run in runs(root, profile):
        for name, step in run.steps.items():
            if step.end == "ran" and step.outputs and step.outputs == locked.get(name):
                made.setdefault(name, run)
    return made


def read(path: Path) -> Run:
    """The record at `path`. Raises PsrError where it is damaged."""
    try:
        run = Run.model_validate_json(path.read_bytes())
        if run.file.parts[1:] == path.parts[-3:]:
            return run
        got = f"a record of {run.file}"
    except ValidationError as error:
        first = error.errors()[0]
        got = ": ".join([*map(str, first["loc"]), first["msg"]])
    command = restoring(path.parents[3], path.relative_to(path.parents[3]).as_posix())
    do = f"{f'Bring it back by {command}' if command else 'Correct it'}, or delete it: no result depends on it."
    raise PsrError("the record of a run is damaged", where=path, got=got, do=do)


def host_class(device: str) -> str:
    """The kind of this machine: "linux x86_64, 2 cores, cpu", or the GPU's name in place of cpu."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = device
    if device.startswith(("cuda", "balanced")):
        import torch

        kind = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    return f"{sys.platform} {platform.machine()}, {cores} cores, {kind}"


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _changed(root: Path) -> tuple[str, ...]:
    """What differs from the commit, less what runs write; nothing where there is no commit."""
    if head(root) is None:
        return ()
    return tuple(name for name in changed_files(root) if not any(PurePath(name).match(mask) for mask in WRITTEN))


def _caller() -> psutil.Process:
    """The process that started this one, shells in between left out."""
    process = psutil.Process(os.getppid())
    while re.sub(r"\W", "", process.name()) in SHELLS and process.ppid():
        process = psutil.Process(process.ppid())
    return process


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)
