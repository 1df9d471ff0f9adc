"""A folder in which the pipeline cannot start is told from one in which it can, and what the line says to do works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import GRAPH, build

from flows import params
from flows.settings import resolved
from psr.errors import PsrError
from tasks.engine.checkout import commit
from tasks.engine.pipeline import Step, opened

COMMITTED = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "all")


def plan(folder: Path, profile: str) -> tuple[Step, ...]:
    with opened(folder) as pipeline, resolved(folder, profile, params.load(folder, profile), pipeline):
        return pipeline.plan(profile)


def check_readable(folder: Path) -> None:
    with opened(folder):
        pass


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one stage without a commit, in a folder whose name a shell would cut."""
    folder = build(tmp_path / "a copy", {"make": GRAPH["make"]})
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def committed(copy: Path) -> Path:
    """The same with everything committed."""
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(COMMITTED, check=True)
    return copy


def refused(folder: Path) -> str:
    """The line that `plan` refuses with; `check_readable` says the same."""
    with pytest.raises(PsrError) as planned:
        plan(folder, "smoke")
    with pytest.raises(PsrError) as read:
        check_readable(folder)
    assert str(planned.value) == str(read.value)
    return str(planned.value)


def no_git_folder(folder: Path) -> None:
    shutil.rmtree(folder / ".git")


def damaged_git_folder(folder: Path) -> None:
    no_git_folder(folder)
    (folder / ".git").mkdir()


def no_dvc_folder(folder: Path) -> None:
    shutil.rmtree(folder / ".dvc")


def no_stages(folder: Path) -> None:
    (folder / "dvc.yaml").unlink()


def staged_away(folder: Path) -> None:
    subprocess.run(["git", "rm", "-q", "dvc.yaml"], check=True)


def no_parameters(folder: Path) -> None:
    (folder / "params.yaml").unlink()


def cut_stages(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages: [")


def cut_settings(folder: Path) -> None:
    (folder / ".dvc/config").write_text("[core")


def cut_lock(folder: Path) -> None:
    (folder / "dvc.lock").write_text("stages: [")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_git_folder, "in no git repository"),
        (damaged_git_folder, "in no git repository"),
        (no_dvc_folder, "DVC's folder is missing"),
        (no_stages, "the list of stages is missing"),
        (staged_away, "the list of stages is missing"),
        (no_parameters, "the file of parameters is missing"),
        (cut_stages, "Correct dvc.yaml"),
        (cut_settings, "Correct .dvc/config"),
    ],
)
def test_what_the_line_says_to_run_mends_it(committed: Path, damage: Callable[[Path], None], words: str):
    check_readable(committed)
    damage(committed)
    line = refused(committed)
    assert words in line
    (command,) = re.findall(r"`([^`]+)`", line)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    (step,) = plan(committed, "smoke")
    assert step.state == "run"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_dvc_folder, "clone the repository"),
        (no_stages, "clone the repository"),
        (cut_stages, "Correct dvc.yaml."),
        (cut_lock, "Correct dvc.lock."),
        (lambda folder: (folder / "seed.txt").unlink(), "Put it there, or correct its path"),
    ],
)
def test_git_is_not_named_where_it_cannot_help(copy: Path, damage: Callable[[Path], None], words: str):
    damage(copy)
    with pytest.raises(PsrError, match=re.escape(words)) as refusal:
        plan(copy, "smoke")
    assert "git checkout" not in str(refusal.value)


def test_a_missing_input_that_git_has_is_brought_back(committed: Path):
    (committed / "seed.txt").unlink()
    with pytest.raises(
        PsrError, match=r"missing \(seed\.txt\).*Bring it back by `git checkout HEAD -- seed\.txt`, or correct"
    ):
        plan(committed, "smoke")


def test_a_repository_around_the_folder_is_one_too(copy: Path):
    no_git_folder(copy)
    subprocess.run(["git", "init", "-q", str(copy.parent)], check=True)
    check_readable(copy)


def test_without_a_lock_no_input_is_called_modified(copy: Path):
    (step,) = plan(copy, "smoke")
    assert (step.state, step.reasons) == ("run", ("not in dvc.lock",))


def test_without_the_program_git_dvc_works_and_where_it_does_not_git_is_to_be_installed(copy: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(copy))
    check_readable(copy)
    no_git_folder(copy)
    assert "Install git and run `git init" in refused(copy)
    no_dvc_folder(copy)
    assert refused(copy).endswith("or clone the repository.")


def test_the_commit_is_said_or_why_not(copy: Path, tmp_path: Path):
    assert commit(copy) == "no commit yet"
    subprocess.run(["git", "add", "seed.txt"], check=True)
    subprocess.run(COMMITTED, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert commit(copy) == f"at commit {head}"
    assert commit(tmp_path) == "no repository"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_of_another_user_is_read_and_git_is_told_how(committed: Path, tmp_path: Path, monkeypatch):
    for path in (committed, committed / ".git"):
        os.chown(path, 65534, 65534)
    monkeypatch.setenv("HOME", str(tmp_path))  # where the advice writes
    check_readable(committed)
    (command,) = re.findall(r"`([^`]+)`", commit(committed))
    subprocess.run(command, shell=True, check=True)
    assert commit(committed).startswith("at commit ")
