"""Whether this installation can run the pipeline: each check says one line, and why not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

SERVER = "from prefect.server.api.server import create_app; create_app(); import prefect; prefect.flow(lambda: None, name='x')"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, and what was found."""

    name: str
    good: bool
    found: str


def findings(root: Path) -> Iterator[Finding]:
    """Every check, as it is made."""
    supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", supported, sys.version.split()[0] + ("" if supported else ", 3.11 or 3.12 is needed"))
    yield from packages(root)
    for name, check in (("prefect server", prefect_server), ("git", git), ("disk", disk)):
        yield Finding(name, *check(root))


def packages(root: Path) -> Iterator[Finding]:
    """Every dependency of pyproject.toml against what is installed. Pins there are there for a reason."""
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for requirement in map(Requirement, declared):
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, False, f"missing, {requirement.specifier} is needed")
            continue
        good = requirement.specifier.contains(found, prereleases=True)
        yield Finding(requirement.name, good, found if good else f"{found}, {requirement.specifier} is needed")


def prefect_server(root: Path) -> tuple[bool, str]:
    """Prefect's server can be imported and made: it breaks where FastAPI is newer than it knows."""
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, cwd=root, timeout=300)
    return done.returncode == 0, "starts" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def git(root: Path) -> tuple[bool, str]:
    """DVC works inside a git repository."""
    there = shutil.which("git") is not None and (root / ".git").exists()
    return there, "repository found" if there else "no git, or no repository: DVC needs both"


def disk(root: Path) -> tuple[bool, str]:
    """A quick profile takes some 200 MB; the environment is there already."""
    free = shutil.disk_usage(root).free / 1e9
    return free > 1, f"{free:.1f} GB free" + ("" if free > 1 else ", 1 GB is needed")
