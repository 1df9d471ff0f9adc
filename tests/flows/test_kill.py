"""Stopped at any moment: nothing keeps running, nothing is lost, nothing is made twice, no clean-up by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from repository import GRAPH, ITEMS, build, environment, family, journal, reproduce, started, until

from tasks.engine.cells import ASIDE, HOME

SLOW = "0.7"
ORPHANS = 30  # seconds a loaded machine gets; an idle one needs three


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository with Prefect's database made and nothing run."""
    folder = build(tmp_path_factory.mktemp("kill"))
    code = "from pathlib import Path; from tasks.engine.server import server\nwith server(Path.cwd()): pass"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        check=True,
        start_new_session=True,
        env=environment(PREFECT_HOME=str(folder / ".psr/prefect")),
    )
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path) -> Path:
    return shutil.copytree(empty, tmp_path / "copy", symlinks=True)


def process_of(folder: Path, module: str) -> int | None:
    """The process that runs `module` in `folder`."""
    for pid in family(folder):
        try:
            if module in psutil.Process(pid).cmdline():
                return pid
        except psutil.NoSuchProcess:
            continue
    return None


def running(folder: Path, item: str) -> Callable[[], bool]:
    """Whether `item` was computed, and whatever was computed is kept, so that the next one is on its way."""

    def kept() -> int:
        return sum(not cell.name.startswith(ASIDE) for cell in (folder / HOME).glob("*/*"))

    return lambda: item in (done := journal(folder)) and kept() == len(done)


def check_resumed(folder: Path) -> None:
    """A second run finishes; every item was really made exactly once, over both runs."""
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    made = journal(folder)
    assert sorted(made) == sorted(f"{name} {i}" for name in GRAPH for i in range(ITEMS))
    assert (folder / "data/smoke/join/all.txt").read_text().count("join 12") == ITEMS
    assert "Nothing to do" in reproduce(folder).stdout


@pytest.mark.slow
def test_kill_9_of_the_parent_leaves_no_process_and_loses_no_finished_item(folder):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as parent:
        until(running(folder, "make 1"), 120)
        os.kill(parent.pid, signal.SIGKILL)
        until(lambda: family(folder) == [], ORPHANS)
    left = len(journal(folder))
    assert left < 2 * ITEMS
    check_resumed(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["server", "make 0", "left 0", "join 0", "join 3"])
def test_kill_9_at_any_moment(folder, moment):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as parent:
        moments = {"server": lambda: process_of(folder, "tasks.engine.server") is not None}
        until(moments.get(moment, running(folder, moment)), 200)
        os.kill(parent.pid, signal.SIGKILL)
        until(lambda: family(folder) == [], ORPHANS)
    check_resumed(folder)


def test_a_step_runs_in_two_processes(folder):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as parent:
        until(running(folder, "make 0"), 120)
        assert sorted(family(folder)) == sorted([parent.pid, process_of(folder, "tasks.engine.server")])


@pytest.mark.slow
def test_kill_9_of_the_server_ends_the_run_in_seconds_with_a_clear_line_and_frees_the_lock(folder):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as parent:
        until(running(folder, "make 1"), 120)
        os.kill(process_of(folder, "tasks.engine.server") or 0, signal.SIGKILL)
        said, _ = parent.communicate(timeout=10)
    assert parent.returncode != 0
    assert "the Prefect server died" in said
    assert family(folder) == []
    check_resumed(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_termination_end_everything_at_once(folder, number, status):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as parent:
        until(running(folder, "make 1"), 120)
        os.kill(parent.pid, number)
        said, _ = parent.communicate(timeout=60)
        assert family(folder) == []
    assert parent.returncode == status, said
    assert "Traceback" not in said
    assert "Stopped. What was finished is kept: run again to go on." in said.splitlines()[-1]
    check_resumed(folder)


@pytest.mark.slow
def test_kill_9_of_dvc_alone_ends_its_step_and_keeps_what_it_finished(folder):
    with started(folder, "repro", "join@smoke", module="dvc", PSR_TEST_SLOW=SLOW) as dvc:
        until(running(folder, "make 1"), 120)
        os.kill(dvc.pid, signal.SIGKILL)
        until(lambda: family(folder) == [], ORPHANS)
    check_resumed(folder)


@pytest.mark.slow
def test_two_at_once_one_runs_and_the_others_wait_or_say_why_not(folder):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as first:
        until(running(folder, "make 0"), 120)
        refused = reproduce(folder, "--no-wait")
        assert refused.returncode == 2
        assert "flows.reproduce --profile smoke runs since" in refused.stderr
        assert f"process {first.pid}" in refused.stderr
        planned = reproduce(folder, "--dry-run")
        assert planned.returncode == 2
        waited = reproduce(folder)
        assert "waiting for it to end" in waited.stdout
        assert "Nothing to do" in waited.stdout
        first.communicate(timeout=60)
        assert first.returncode == 0
    assert len(journal(folder)) == len(GRAPH) * ITEMS


@pytest.mark.slow
def test_a_dvc_run_by_hand_beside_it_is_named(folder):
    with started(folder, "repro", "join@smoke", module="dvc", PSR_TEST_SLOW="5") as dvc:
        until(lambda: process_of(folder, "flows.step") is not None, 120)
        done = reproduce(folder)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "another DVC process is working in this repository" in done.stderr
        assert str(dvc.pid) in done.stderr


@pytest.mark.slow
def test_a_run_that_waited_works_with_the_parameters_of_now_and_not_with_code_of_before(folder):
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as first:
        until(running(folder, "make 0"), 120)
        with started(folder, "--profile", "quick") as waiting:
            assert "waiting for it to end" in waiting.stdout.readline()
            params = folder / "params.yaml"
            text = params.read_text()
            params.write_text(text.replace("seed: 11\n", "seed: 777\n"))  # quick's
            first.communicate(timeout=120)
            said, _ = waiting.communicate(timeout=200)
            assert waiting.returncode == 0, said
    assert (folder / "data/quick/make/all.txt").read_text().startswith("make 777\n")
    with started(folder, "--profile", "smoke", PSR_TEST_SLOW=SLOW) as first:
        (folder / "seed.txt").write_text("another\n")
        params.write_text(params.read_text().replace("      seed: 1\n", "      seed: 2\n"))
        until(lambda: journal(folder).count("make 0") == 3, 120)
        with started(folder, "--profile", "quick") as waiting:
            assert "waiting for it to end" in waiting.stdout.readline()
            with open(folder / "psr/types.py", "a") as file:
                file.write("# edited\n")
            first.communicate(timeout=120)
            said, _ = waiting.communicate(timeout=200)
            assert waiting.returncode == 2
            assert "the code was edited after this command began" in said
