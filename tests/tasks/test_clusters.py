"""Cells on real worker processes: of Dask on this machine, and of a scheduler that workers join when they like."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from psr.errors import PsrError
from tasks.engine.cells import remembered
from tasks.engine.clusters import Chosen, started
from tasks.engine.locks import reproducing
from tasks.engine.progress import say
from tasks.engine.runners import Conditions, conditions, serial

ROOT = Path(__file__).resolve().parents[2]
opened: list[int] = []


@remembered(None)
def model() -> list[int]:
    opened.append(os.getpid())
    return opened


def work(folder: Path, number: int, seconds: float) -> tuple[int, int, int]:
    """number², the process, and how often it opened its model; a file says that it began."""
    (folder / f"{number}.{os.getpid()}").touch()
    say(f"cell {number}")
    if number < 0:
        raise PsrError("no such number", where=str(number))
    time.sleep(seconds)
    return number * number, os.getpid(), len(model())


def cells(folder: Path, count: int, seconds: float = 0.2) -> dict[str, dict[str, Any]]:
    return {f"cell {n}": {"folder": folder, "number": n, "seconds": seconds} for n in range(count)}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conditions]:
    """The conditions of a run in an empty repository, whose lock is held."""
    root = tmp_path_factory.mktemp("repository")
    with reproducing(root, "a test", wait=False, say=print):
        yield conditions(root, ())


@contextmanager
def at_work(chosen: Chosen, wanted: Conditions) -> Iterator[Any]:
    with started(chosen, wanted, threads=1, gpu=False) as workers:
        yield workers.runner(serial)


def began(folder: Path) -> list[tuple[int, int]]:
    return [(int(number), int(pid)) for number, _, pid in (file.name.partition(".") for file in folder.iterdir())]


def listening(pid: int) -> list[Any]:
    return [one for one in psutil.Process(pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN]


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_two_workers_share_the_cells_and_a_killed_one_costs_its_cell(wanted, tmp_path, capfd):
    with at_work(Chosen("dask", None, 2), wanted) as run:
        results = run(work, cells(tmp_path, 6))
        assert [square for square, _, _ in results] == [n * n for n in range(6)]
        assert len({pid for _, pid, _ in results}) == 2
        assert {models for _, _, models in results} == {1}
        assert "cell 5" in capfd.readouterr().out

        pids = [os.getpid(), *{pid for _, pid, _ in results}]
        assert {one.laddr.ip for pid in pids for one in listening(pid)} == {"127.0.0.1"}

        with pytest.raises(PsrError, match=r"no such number \(-1\)"):
            run(work, {"bad": {"folder": tmp_path, "number": -1, "seconds": 0}})

        folder = tmp_path / "killed"
        folder.mkdir()

        def kill() -> None:
            until(lambda: began(folder))
            os.kill(began(folder)[0][1], signal.SIGKILL)

        threading.Thread(target=kill).start()
        results = run(work, cells(folder, 4, 1.0))
        assert [square for square, _, _ in results] == [0, 1, 4, 9]
        numbers = [number for number, _ in began(folder)]
        assert sorted(set(numbers)) == [0, 1, 2, 3]
        assert len(numbers) == 5  # one cell began twice


@contextmanager
def dask(*arguments: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """A command of Dask, ended with the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments], cwd=cwd, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{cwd}{os.pathsep}{Path(__file__).parent}"},
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler and its address."""
    import json

    file = folder / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)) as it:
        until(file.exists)
        yield json.loads(file.read_text())["address"], it


def worker(address: str, cwd: Path = ROOT) -> Any:
    return dask("worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", cwd=cwd)


@pytest.mark.slow
def test_workers_that_join_late_get_work_and_a_scheduler_that_dies_is_one_line(wanted, tmp_path, capfd):
    folder = tmp_path / "cells"
    folder.mkdir()
    with scheduler(tmp_path) as (address, process), at_work(Chosen("dask", address), wanted) as run:
        assert "no worker at tcp://127.0.0.1" in capfd.readouterr().out
        results: list[Any] = []
        running = threading.Thread(target=lambda: results.extend(run(work, cells(folder, 24, 0.5))))
        running.start()
        time.sleep(1)
        assert began(folder) == []
        with worker(address):
            until(lambda: len(began(folder)) > 2)
            with worker(address):
                running.join(60)
                assert [square for square, _, _ in results] == [n * n for n in range(24)]
                assert len({pid for _, pid, _ in results}) == 2

                failed: list[BaseException] = []

                def fail() -> None:
                    try:
                        run(work, cells(tmp_path, 4, 30.0))
                    except PsrError as error:
                        failed.append(error)

                running = threading.Thread(target=fail)
                running.start()
                until(lambda: list(tmp_path.glob("0.*")))
                time.sleep(1)
                os.killpg(process.pid, signal.SIGKILL)
                running.join(20)
                assert "the cluster does not answer any more" in str(failed[0])


@pytest.mark.slow
def test_a_worker_with_other_code_or_other_packages_is_refused_and_named(wanted, tmp_path):
    other = tmp_path / "other"
    for name in ("psr", "tasks", "flows"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "psr/types.py").write_text((other / "psr/types.py").read_text() + "# edited\n")
    with scheduler(tmp_path) as (address, _):
        with (
            worker(address, cwd=other), at_work(Chosen("dask", address), wanted) as run,
            pytest.raises(PsrError, match="a worker has another code") as refused,
        ):  # fmt: skip
            run(work, cells(tmp_path, 1))
        assert f"expected code {wanted.code}, got code " in str(refused.value)
        torch = replace(wanted, versions=(*wanted.versions, ("torch", "1.0")))
        with (
            worker(address), at_work(Chosen("dask", address), torch) as run,
            pytest.raises(PsrError, match=r"a worker has another torch .*expected torch 1.0, got torch 2"),
        ):  # fmt: skip
            run(work, cells(tmp_path, 1))


@pytest.mark.slow
def test_a_cell_that_ends_every_worker_is_given_up_in_one_line(wanted, tmp_path):
    with (
        at_work(Chosen("dask", None, 1), wanted) as run,
        pytest.raises(PsrError, match="a cell's worker died 4 times"),
    ):
        run(os._exit, {"out": {"status": 1}})


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_an_address_that_does_not_answer_is_refused_within_seconds(wanted, address):
    start = time.monotonic()
    with (
        pytest.raises(PsrError, match=rf"the cluster does not answer \({address}\)"),
        at_work(Chosen("dask", address), wanted),
    ):
        pass
    assert time.monotonic() - start < 15


@pytest.mark.slow
def test_ray_computes_the_same_and_a_killed_worker_costs_its_cell(wanted, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with at_work(Chosen("ray", None, 2), wanted) as run:
        results = run(work, cells(tmp_path, 6))
        assert [square for square, _, _ in results] == [n * n for n in range(6)]
        assert len({pid for _, pid, _ in results}) == 2
        assert "cell 5" in capfd.readouterr().out
        with pytest.raises(PsrError, match=r"no such number \(-1\)"):
            run(work, {"bad": {"folder": tmp_path, "number": -1, "seconds": 0}})
        folder = tmp_path / "killed"
        folder.mkdir()

        def kill() -> None:
            until(lambda: began(folder))
            os.kill(began(folder)[0][1], signal.SIGKILL)

        threading.Thread(target=kill).start()
        assert [square for square, _, _ in run(work, cells(folder, 4, 1.0))] == [0, 1, 4, 9]
        assert len(began(folder)) == 5
    start = time.monotonic()
    with pytest.raises(PsrError, match="the cluster does not answer"), at_work(Chosen("ray", "127.0.0.1:1"), wanted):
        pass
    assert time.monotonic() - start < 60
