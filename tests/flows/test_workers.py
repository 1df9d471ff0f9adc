"""`python -m flows.reproduce --runner dask`: the results of a run in one process, and nothing left running when it is stopped."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from repository import GRAPH, ITEMS, build, family, journal, reproduce, started, until

ORPHANS = 30  # seconds a loaded machine gets
SLOW = "0.7"


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository in which everything was reproduced in one process."""
    folder = build(tmp_path_factory.mktemp("serial"))
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def fresh(serial: Path, tmp_path: Path) -> Path:
    """The same repository with nothing run, but Prefect's database made."""
    folder = build(tmp_path / "fresh")
    shutil.copytree(serial / ".psr/prefect", folder / ".psr/prefect")
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for name in GRAPH for p in folder.glob(f"data/smoke/{name}/*")
    }


def test_workers_give_what_one_process_gives(serial, fresh):
    done = reproduce(fresh, "--runner", "dask", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 workers of dask on this machine" in done.stdout
    assert outputs(fresh) == outputs(serial)
    assert (fresh / "dvc.lock").read_bytes() == (serial / "dvc.lock").read_bytes()
    assert sorted(journal(fresh)) == sorted(f"{name} {i}" for name in GRAPH for i in range(ITEMS))
    assert family(fresh) == []


def test_what_does_not_fit_is_one_line_and_the_lock_is_released(serial):
    (serial / "seed.txt").write_text("another\n")
    for arguments, words in (
        (("--workers", "2"), "--cluster and --workers are for --runner dask or ray"),
        (("--runner", "dask", "--workers", "0"), "expected 1 or more, got 0"),
        (("--runner", "dask", "--workers", "1", "--cluster", "tcp://127.0.0.1:1"), "Give one of them"),
        (("--runner", "dask", "--cluster", "tcp://127.0.0.1:1"), "the cluster does not answer (tcp://127.0.0.1:1)"),
    ):
        start = time.monotonic()
        done = reproduce(serial, *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert time.monotonic() - start < 60
    assert (serial / ".psr/reproduce.lock").read_text() == ""
    assert family(serial) == []


@pytest.mark.slow
def test_kill_9_of_the_run_leaves_no_worker_and_loses_no_finished_cell(fresh):
    arguments = ("--profile", "smoke", "--runner", "dask", "--workers", "2")
    with started(fresh, *arguments, PSR_TEST_SLOW=SLOW) as parent:
        until(lambda: "make 1" in journal(fresh), 120)
        os.kill(parent.pid, signal.SIGKILL)
        until(lambda: family(fresh) == [], ORPHANS)
    assert reproduce(fresh).returncode == 0
    assert sorted(journal(fresh)) == sorted(f"{name} {i}" for name in GRAPH for i in range(ITEMS))


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_too(fresh):
    arguments = ("--profile", "smoke", "--runner", "dask", "--workers", "2")
    with started(fresh, *arguments, PSR_TEST_SLOW=SLOW) as parent:
        until(lambda: "make 1" in journal(fresh), 120)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        said, _ = parent.communicate(timeout=60)
        until(lambda: family(fresh) == [], ORPHANS)
    assert parent.returncode == 130, said
    assert "Traceback" not in said
    assert "Stopped. What was finished is kept: run again to go on." in said


@pytest.mark.slow
def test_a_worker_killed_while_it_computes_costs_its_cell(serial, fresh):
    import psutil

    arguments = ("--profile", "smoke", "--runner", "dask", "--workers", "2")
    with started(fresh, *arguments, PSR_TEST_SLOW="1.5") as parent:
        until(lambda: "make 1" in journal(fresh), 120)
        spawned = [
            p for p in psutil.Process(parent.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())
        ]
        spawned[0].kill()
        said, _ = parent.communicate(timeout=200)
    assert parent.returncode == 0, said
    assert outputs(fresh) == outputs(serial)
