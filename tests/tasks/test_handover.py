"""What is handed back from a worker's clone: one commit on a branch, or a patch; what is kept outlives the clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.engine.handover import branch_of, keep, kept_folder


def git(folder: Path, *words: str, text: str = "") -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A shallow clone of a bare origin, as a worker makes it."""
    first, origin = tmp_path / "first", tmp_path / "origin.git"
    first.mkdir()
    git(first, "init", "-q", "-b", "main")
    (first / "dvc.lock").write_text("old\n")
    (first / ".gitignore").write_text("/.psr/\n/data/\n")
    git(first, "add", "-A")
    git(first, "commit", "-q", "-m", "before")
    git(tmp_path, "clone", "-q", "--bare", str(first), str(origin))
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{origin}", "clone")
    return tmp_path / "clone"


def test_the_commit_has_what_changed_and_the_clone_stays_where_it_was(clone):
    branch = branch_of(clone, "psr/run-1")
    assert branch.commit("nothing") == ""
    (clone / "dvc.lock").write_text("new\n")
    (clone / "record.json").write_text("{}\n")
    (clone / "data").mkdir()
    (clone / "data" / "large").write_text("ignored\n")
    for message in ("one step", "two steps"):
        assert branch.push(branch.commit(message)) == ""
    origin = clone.parent / "origin.git"
    assert git(origin, "log", "--format=%s", "psr/run-1") == "two steps\nbefore"
    assert git(origin, "diff", "--name-only", "main", "psr/run-1").split() == ["dvc.lock", "record.json"]
    assert git(clone, "rev-parse", "HEAD") == branch.base
    assert git(clone, "status", "--porcelain").split() == ["M", "dvc.lock", "??", "record.json"]


def test_an_origin_that_refuses_says_why_and_the_patch_applies(clone):
    origin = clone.parent / "origin.git"
    hook = origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho nobody may push >&2\nexit 1\n")
    hook.chmod(0o755)
    branch = branch_of(clone, "psr/run-1")
    (clone / "dvc.lock").write_text("new\n")
    commit = branch.commit("a run")
    assert branch.push(commit) == "remote: nobody may push"
    git(clone.parent, "clone", "-q", str(origin), "other")
    git(clone.parent / "other", "am", "-q", text=branch.patch(commit))
    assert (clone.parent / "other" / "dvc.lock").read_text() == "new\n"


def test_an_origin_that_is_gone_says_so(clone):
    (clone.parent / "origin.git").rename(clone.parent / "gone")
    branch = branch_of(clone, "psr/run-1")
    (clone / "dvc.lock").write_text("new\n")
    assert "does not appear to be a git repository" in branch.push(branch.commit("a run"))


def test_what_is_kept_lies_outside_the_clone_and_is_the_next_clones_too(clone):
    folder = kept_folder(clone, clone.parent / "kept")
    keep(clone, folder)
    keep(clone, folder)
    (clone / ".psr" / "cells" / "cell").write_text("finished\n")
    (clone / ".psr" / "judge_answers.sqlite").write_text("answers\n")
    assert git(clone, "status", "--porcelain") == "?? .dvc/"  # .dvc/.gitignore has /cache
    origin = clone.parent / "origin.git"
    git(clone.parent, "clone", "-q", f"file://{origin}", "next")
    following = clone.parent / "next"
    assert kept_folder(following, clone.parent / "kept") == folder
    keep(following, folder)
    assert (following / ".psr" / "cells" / "cell").read_text() == "finished\n"
    assert (following / ".psr" / "judge_answers.sqlite").read_text() == "answers\n"
    git(following, "remote", "set-url", "origin", "file:///another.git")
    assert kept_folder(following, clone.parent / "kept") != folder
