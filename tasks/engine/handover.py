"""What git keeps of a run, handed back from a clone that will be deleted: one commit on a branch of its own, or a patch.

In a fresh clone everything that is changed and not ignored is of the run: dvc.lock, the profile's settings, metrics, .dvc files.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from psr.errors import PsrError
from psr.types import short_hash

IDENTITY = ("-c", "user.name=psr worker", "-c", "user.email=psr-worker@localhost")
KEPT = (".psr/cells", ".psr/judge_answers.sqlite", ".dvc/cache")  # computed or paid for, and not git's


@dataclass(frozen=True)
class Branch:
    """The branch of one run. base: the commit that the clone was made at, which stays its HEAD."""

    root: Path
    name: str
    base: str

    def commit(self, message: str) -> str:
        """A commit of the clone's files on top of `base`, in no branch of the clone; empty where nothing is changed."""
        with TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            _git(self.root, "read-tree", self.base, **index)
            _git(self.root, "add", "-A", **index)
            tree = _git(self.root, "write-tree", **index).stdout.strip()
        if tree == _git(self.root, "rev-parse", f"{self.base}^{{tree}}").stdout.strip():
            return ""
        return _git(self.root, *IDENTITY, "commit-tree", tree, "-p", self.base, "-m", message).stdout.strip()

    def push(self, commit: str) -> str:
        """Make the commit the origin's branch. Returns why that failed, in a line, or nothing."""
        done = _run(self.root, "push", "-q", "--force", "origin", f"{commit}:refs/heads/{self.name}")
        return "" if done.returncode == 0 else _reason(done.stderr)

    def patch(self, commit: str) -> str:
        """The commit as a text that `git am` applies."""
        return _git(self.root, "format-patch", "--stdout", f"{self.base}..{commit}").stdout


def branch_of(root: Path, name: str) -> Branch:
    """A branch that begins where the clone stands."""
    return Branch(root, name, _git(root, "rev-parse", "HEAD").stdout.strip())


def kept_folder(root: Path, home: Path) -> Path:
    """The folder below `home` for clones of the same origin."""
    origin = _git(root, "config", "--get", "remote.origin.url").stdout.strip()
    return home / f"{Path(origin).stem}-{short_hash('origin', origin)[:8]}"


def keep(root: Path, folder: Path) -> None:
    """Let the clone at `root` have its cells, a judge's answers and DVC's cache in `folder`, so that they outlive it."""
    for name in KEPT:
        link, target = root / name, folder / name.replace("/", "-").lstrip(".")
        (target.parent if target.suffix else target).mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists() and not link.is_symlink():
            link.symlink_to(target)


def _reason(text: str) -> str:
    """The line of git's message that says why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("remote:", "fatal:", "error:", "!"))), "no message")


def _git(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = _run(root, *command, **variables)
    if done.returncode:
        raise PsrError(f"git {' '.join(command[-2:])} failed", where=root, got=_reason(done.stderr))
    return done


def _run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run git with messages in English, asking nobody for a password."""
    env = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **variables}
    return subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=False, env=env)
