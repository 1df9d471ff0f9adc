"""docs/how-to/share.md, followed to the letter by two people: one runs the profile, the other pulls what it made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from repository import environment
from test_how_to import git
from test_pipeline import clone, sql

from tests.pages import blocks

IDENTITY = {f"GIT_{who}_{what}": f"{who}@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def ran(folder: Path, text: str, remotes: Path) -> str:
    """A console block as one script, on this test's remotes and the profile that tests run."""
    script = text.replace("/srv/team/psr", str(remotes / "dvc")).replace("--profile full", "--profile smoke")
    script = script.replace("git@example.org:team/psr.git", str(remotes / "git"))
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment(**IDENTITY), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_whoever_pulls_computes_nothing_and_has_the_same_table(tmp_path):
    first, second = clone(tmp_path / "first"), tmp_path / "second"
    second.mkdir()
    git(first, "add", "-A")
    git(first, "commit", "-q", "-m", "before")
    git(tmp_path, "clone", "-q", "--bare", str(first), "git")
    git(first, "remote", "add", "origin", str(tmp_path / "git"))
    git(first, "push", "-q", "-u", "origin", "HEAD")
    begins, runs, pulls = (block.text for block in blocks("share.md") if block.language == "console")
    ran(first, begins, tmp_path)
    ran(first, runs, tmp_path)
    assert git(first, "status", "--porcelain") == ""
    assert "Nothing to do" in ran(second, pulls, tmp_path)
    query = "select * from headline order by all"
    assert sql(second / "psr", query) == sql(first, query)
    assert (second / "psr/.psr/mlflow.db").exists()
