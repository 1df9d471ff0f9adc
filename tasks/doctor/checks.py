"""The checks of `python -m flows.doctor`: whether this installation can run the pipeline, a line a check."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from psr.errors import PsrError
from tasks.doctor.schedule import schedules
from tasks.engine.checkout import commit, restoring
from tasks.engine.pipeline import opened

SERVER = "from prefect.server.api.server import create_app; create_app(); import prefect; prefect.flow(lambda: None, name='x')"


class Finding(NamedTuple):
    """The result of a check. name: what was checked; detail: what was found, in a line."""

    name: str
    good: bool
    detail: str


def findings(root: Path) -> Iterator[Finding]:
    """Run every check."""
    supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", supported, sys.version.split()[0] + ("" if supported else ", 3.11 or 3.12 is needed"))
    yield from packages(root)
    for name, check in CHECKS.items():
        yield Finding(name, *check(root))


def packages(root: Path) -> Iterator[Finding]:
    """A finding for each dependency of pyproject.toml, the pipeline's included: the installed version against its range.

    A version outside the range is bad. One that differs from constraints.txt (the versions that were run together) may
    work, and is named; of indirect dependencies only those are listed.
    """
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        declared = [*project["dependencies"], *project.get("optional-dependencies", {}).get("pipeline", ())]
    except (OSError, ValueError, KeyError) as error:
        yield Finding("pyproject.toml", False, f"does not say what is needed: {type(error).__name__}: {error}")
        return
    together = run_together(root)
    for requirement in map(Requirement, declared):
        tried = together.pop(canonicalize_name(requirement.name), None)
        name, needed = requirement.name, requirement.specifier
        try:
            good, installed = needed.contains(version(name), prereleases=True), version(name)
        except PackageNotFoundError:
            good, installed = False, "missing"
        yield Finding(name, good, _with_tried(installed, tried) if good else f"{installed}, {needed} is needed")
    for below, tried in together.items():
        with suppress(PackageNotFoundError):  # what only tests need may be missing
            if not tried.specifier.contains(version(below), prereleases=True):
                yield Finding(below, True, _with_tried(version(below), tried))


def run_together(root: Path) -> dict[str, Requirement]:
    """package -> its line of constraints.txt; empty without the file."""
    path = root / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    read = [Requirement(bare) for line in lines if (bare := line.partition("#")[0].strip())]
    return {canonicalize_name(one.name): one for one in read if one.marker is None or one.marker.evaluate()}


def _with_tried(installed: str, tried: Requirement | None) -> str:
    if tried is None or tried.specifier.contains(installed, prereleases=True):
        return installed
    return f"{installed} (run together: {str(tried.specifier).removeprefix('==')})"


def prefect_server(root: Path) -> tuple[bool, str]:
    """Prefect's server can be imported and created: a newer FastAPI breaks it."""
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, cwd=root, timeout=300)
    return done.returncode == 0, "starts" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def git(root: Path) -> tuple[bool, str]:
    """The git program, from which MLflow takes the commit; DVC works without it."""
    if shutil.which("git") is None:
        return True, "no git program on PATH: MLflow's records will name no commit"
    return True, commit(root)


def pipeline(root: Path) -> tuple[bool, str]:
    """DVC can read its files, in a git repository."""
    try:
        with opened(root):
            pass
    except PsrError as error:
        return False, str(error)
    if (root / "dvc.lock").exists():
        return True, "DVC reads it"
    command = restoring(root, "dvc.lock")
    return True, "no dvc.lock, so every stage will run" + (f"; {command} brings it back" if command else "")


def steering(root: Path) -> tuple[bool, str]:
    """The shipped model is read with a cache as without, and steered where it should be (psr/steering/probe.py)."""
    from tasks.asking.models import ModelSettings
    from tasks.doctor.model import check_model

    try:
        check_model(ModelSettings(str(root / "data/testbed/model"), "float32", "cpu", threads=2))
    except PsrError as error:
        return False, str(error)
    return True, "acts on the same tokens with a cache as without"


def disk(root: Path) -> tuple[bool, str]:
    """Free space: the quick profile needs about 200 MB."""
    free = shutil.disk_usage(root).free / 1e9
    return free > 1, f"{free:.1f} GB free" + ("" if free > 1 else ", 1 GB is needed")


CHECKS: dict[str, Callable[[Path], tuple[bool, str]]] = {
    "prefect server": prefect_server,
    "schedules": schedules,
    "steering": steering,
    "git": git,
    "pipeline": pipeline,
    "disk": disk,
}
