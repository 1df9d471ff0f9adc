"""The checkout that the pipeline runs in: the files it needs, its git commit, and the command that restores a file."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from psr.errors import PsrError
from tasks.engine.lockfiles import CODE

NEEDED = {".dvc": "DVC's folder", "dvc.yaml": "the list of stages", "params.yaml": "the file of parameters"}
COPY = "Copy it from where this folder was copied from (`cp -r *` leaves out what begins with a dot), or clone the repository."


def check_files(root: Path) -> None:
    """Raise PsrError where a file that DVC needs is missing."""
    for name, what in NEEDED.items():
        if not (root / name).exists():
            command = restoring(root, name)
            raise PsrError(
                f"{what} is missing", where=root / name, do=f"Bring it back by {command}." if command else COPY
            )


def no_repository(root: Path) -> PsrError:
    """The error where DVC finds no git repository. `git init` also repairs a damaged one, and loses nothing."""
    do = f"{'Run' if shutil.which('git') else 'Install git and run'} `git init {shlex.quote(str(root))}`, or clone the repository."
    return PsrError("this folder is in no git repository, and DVC needs one", where=root, do=do)


def restoring(root: Path, name: str) -> str:
    """The command that restores a file or folder from the last commit; empty where git does not have it."""
    committed = _git(root, "cat-file", "-e", f"HEAD:./{name}").returncode == 0
    return f"`git checkout HEAD -- {shlex.quote(name)}`" if committed else ""


def commit(root: Path) -> str:
    """The checkout's commit, or the reason why git names none."""
    head = _git(root, "rev-parse", "--short", "HEAD")
    if head.returncode == 0:
        return f"at commit {head.stdout.strip()}"
    if "dubious ownership" in head.stderr:
        allow = f"git config --global --add safe.directory {shlex.quote(str(root))}"
        return f"git refuses this folder, which is another user's; `{allow}` allows it"
    return "no repository" if "not a git repository" in head.stderr else "no commit yet"


def head(root: Path) -> str | None:
    """The checkout's commit, 40 hex digits; None where git names none."""
    asked = _git(root, "rev-parse", "--verify", "HEAD")
    return asked.stdout.strip() if asked.returncode == 0 else None


def git_user(root: Path) -> str:
    """The name that git signs commits with here; empty where it has none."""
    return _git(root, "config", "user.name").stdout.strip()


def changed_files(root: Path) -> list[str]:
    """Tracked files that differ from the commit, and code that git does not track."""
    tracked = _git(root, "diff", "--name-only", "--relative", "-z", "HEAD").stdout
    code = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE).stdout
    return sorted(name for name in (tracked + code).split("\0") if name)


def uncommitted(root: Path, name: str) -> bool:
    """Whether a file, or one in a folder, is not in the last commit as it is here."""
    return bool(_git(root, "status", "--porcelain", "--untracked-files=normal", "--", name).stdout)


def difference(root: Path, names: Iterable[str]) -> str:
    """How these tracked files differ from the commit, as `git diff` shows it."""
    return _git(root, "diff", "--no-color", "--no-ext-diff", "--relative", "HEAD", "--", *names).stdout


def _git(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run git with messages in English; status 127 without git."""
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
