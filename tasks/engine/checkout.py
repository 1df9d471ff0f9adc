"""The folder that the pipeline runs in: what has to lie there, what git knows of it, and how to get back what is missing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from psr.errors import PsrError

NEEDED = {".dvc": "DVC's folder", "dvc.yaml": "the list of stages", "params.yaml": "the file of parameters"}
COPY = "Copy it from where this folder was copied from (`cp -r *` leaves out what begins with a dot), or clone the repository."


def check_files(root: Path) -> None:
    """Raise PsrError when something is missing without which DVC cannot begin."""
    for name, what in NEEDED.items():
        if not (root / name).exists():
            command = restoring(root, name)
            raise PsrError(
                f"{what} is missing", where=root / name, do=f"Bring it back by {command}." if command else COPY
            )


def no_repository(root: Path) -> PsrError:
    """What to say when DVC finds no git repository. `git init` mends a damaged one too, and loses nothing."""
    do = f"{'Run' if shutil.which('git') else 'Install git and run'} `git init {shlex.quote(str(root))}`, or clone the repository."
    return PsrError("this folder is in no git repository, and DVC needs one", where=root, do=do)


def restoring(root: Path, name: str) -> str:
    """The command that brings a file or folder back as it was committed; empty where git does not have it."""
    known = _git(root, "cat-file", "-e", f"HEAD:./{name}").returncode == 0
    return f"`git checkout HEAD -- {shlex.quote(name)}`" if known else ""


def commit(root: Path) -> str:
    """Which commit this is, or why git does not say."""
    asked = _git(root, "rev-parse", "--short", "HEAD")
    if asked.returncode == 0:
        return f"at commit {asked.stdout.strip()}"
    if "dubious ownership" in asked.stderr:
        allow = f"git config --global --add safe.directory {shlex.quote(str(root))}"
        return f"git refuses this folder, which is another user's; `{allow}` allows it"
    return "no repository" if "not a git repository" in asked.stderr else "no commit yet"


def _git(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """git's answer in English; status 127 without git."""
    try:
        return subprocess.run(
            ["git", "-C", str(root), *command],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "no git")
