"""Every reproduction of a small repository leaves one record, whichever way it was started and however it ended."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import GRAPH, build, environment, reproduce

from tasks.engine import history
from tasks.engine.lockfiles import recorded
from tasks.shown import index
from tasks.shown.query import ask

TWO = {"make": GRAPH["make"], "left": GRAPH["left"]}


def git(folder: Path, *command: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.email=a@example.org", *command], check=True)


def locked(folder: Path, step: str) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in recorded(folder, "smoke")[step]["outs"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository with a commit, reproduced once by Ada."""
    folder = build(tmp_path_factory.mktemp("records"), TWO)
    git(folder, "config", "user.name", "Ada")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy", symlinks=True)


def test_a_reproduction_leaves_one_record_that_names_what_each_step_made(finished):
    (run,) = history.runs(finished)
    assert (run.profile, run.who, run.outcome, run.dirty) == ("smoke", "Ada", "completed", False)
    assert {name: step.end for name, step in run.steps.items()} == {"make": "ran", "left": "ran"}
    assert {name: step.outputs for name, step in run.steps.items()} == {name: locked(finished, name) for name in TWO}
    assert run.settings["complete"]["seed"] == 1
    assert history.makers(finished, "smoke") == {"make": run, "left": run}
    assert (finished / run.file).stat().st_size < 6000


def test_the_record_is_gits_and_no_step_depends_on_it(folder):
    status = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=folder, capture_output=True, text=True
    ).stdout
    (run,) = history.runs(folder)
    assert f"?? {run.file}" in status
    (folder / run.file).write_text((folder / run.file).read_text().replace("Ada", "Eve"))
    done = reproduce(folder)
    assert "Nothing to do" in done.stdout
    assert len(history.runs(folder)) == 1  # a run that computes nothing leaves none


def test_a_failed_run_leaves_a_record_and_the_next_one_its_own(folder):
    (first,) = history.runs(folder)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("limit: 12", "limit: 11"))
    assert reproduce(folder, PSR_TEST_FAIL="left:bug:1").returncode == 1
    (failed,) = (run for run in history.runs(folder) if run.id != first.id)
    assert (failed.outcome, failed.changed) == ("failed", ("params.yaml",))
    assert {name: step.end for name, step in failed.steps.items()} == {"make": "cached", "left": "failed"}
    assert reproduce(folder).returncode == 0
    makers = history.makers(folder, "smoke")
    assert makers["make"] == first
    assert makers["left"].id not in (first.id, failed.id)


def test_a_dvc_repro_leaves_one_record_of_all_its_steps(folder):
    before = history.runs(folder)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("seed: 1\n", "seed: 9\n"))
    command = [sys.executable, "-m", "dvc", "repro", "-q", "left@smoke"]
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    (run,) = (run for run in history.runs(folder) if run not in before)
    assert {name: step.end for name, step in run.steps.items()} == {"make": "ran", "left": "ran"}
    assert run.outcome == "completed"
    assert run.settings["complete"]["seed"] == 9
    assert history.makers(folder, "smoke") == {"make": run, "left": run}


def test_a_clone_that_pulled_lock_and_records_names_the_teammate(folder, tmp_path):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "results")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(folder), str(clone)], check=True)
    git(clone, "config", "user.name", "Bob")
    assert {step: run.who for step, run in history.makers(clone, "smoke").items()} == {"make": "Ada", "left": "Ada"}
    made = ask(index.rebuild(clone), "select step, who from made_by where profile = 'smoke' order by step").rows
    assert made == (("left", "Ada"), ("make", "Ada"))
