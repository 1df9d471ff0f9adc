"""Whether this installation can run the pipeline: each check says one line, and why not."""

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
    """One line: what was looked at, whether it is well, and what was found."""

    name: str
    good: bool
    found: str


def findings(root: Path) -> Iterator[Finding]:
    """Every check, as it is made."""
    supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", supported, sys.version.split()[0] + ("" if supported else ", 3.11 or 3.12 is needed"))
    yield from packages(root)
    for name, check in CHECKS.items():
        yield Finding(name, *check(root))


def packages(root: Path) -> Iterator[Finding]:
    """Every dependency of pyproject.toml, the pipeline's too, against what is installed, and beside it the version of constraints.txt.

    pyproject.toml says what works, and is there for a reason. constraints.txt says what was run together: another version
    may work, and is named; of packages that are no dependency of ours, only such a one.
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
            good, found = needed.contains(version(name), prereleases=True), version(name)
        except PackageNotFoundError:
            good, found = False, "missing"
        yield Finding(name, good, _beside(found, tried) if good else f"{found}, {needed} is needed")
    for below, tried in together.items():
        with suppress(PackageNotFoundError):  # what only tests need may be missing
            if not tried.specifier.contains(version(below), prereleases=True):
                yield Finding(below, True, _beside(version(below), tried))


def run_together(root: Path) -> dict[str, Requirement]:
    """The lines of constraints.txt by package; none without the file."""
    path = root / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    read = [Requirement(bare) for line in lines if (bare := line.partition("#")[0].strip())]
    return {canonicalize_name(one.name): one for one in read if one.marker is None or one.marker.evaluate()}


def _beside(found: str, tried: Requirement | None) -> str:
    if tried is None or tried.specifier.contains(found, prereleases=True):
        return found
    return f"{found} (run together: {str(tried.specifier).removeprefix('==')})"


def prefect_server(root: Path) -> tuple[bool, str]:
    """Prefect's server can be imported and made: it breaks where FastAPI is newer than it knows."""
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, cwd=root, timeout=300)
    return done.returncode == 0, "starts" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def git(root: Path) -> tuple[bool, str]:
    """DVC itself does without the program; MLflow is told the commit by it."""
    if shutil.which("git") is None:
        return True, "no git program on PATH: MLflow's records will name no commit"
    return True, commit(root)


def pipeline(root: Path) -> tuple[bool, str]:
    """DVC can read its files here, in a git repository."""
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
    """A quick profile takes some 200 MB; the environment is there already."""
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
