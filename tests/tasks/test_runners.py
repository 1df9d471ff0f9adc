"""Runners without a cluster: order, repetition, what is cancelled, what is said, and which workers are refused."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from psr.errors import PsrError
from tasks.engine.cells import Cells, forget, remembered
from tasks.engine.clusters import gpu_of
from tasks.engine.locks import LOCK, reproducing
from tasks.engine.progress import say
from tasks.engine.runners import Calls, Workers, conditions, received, serial


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker works in the run's folder; afterwards the tests go on in theirs."""
    monkeypatch.chdir(tmp_path)


def double(number: int) -> int:
    if number < 0:
        raise OSError("the line was cut")
    say(f"doubled {number}")
    return 2 * number


def pending(cell: bytes) -> Future[tuple[Any, list[str]]]:
    work, arguments = pickle.loads(cell)
    future: Future[tuple[Any, list[str]]] = Future()
    try:
        future.set_result((work(**arguments), [f"line of {arguments['number']}"]))
    except OSError as error:
        future.set_exception(error)
    return future


def test_results_are_in_the_order_of_the_calls_and_lines_are_said_here(capsys):
    calls = {name: {"number": number} for name, number in (("b", 3), ("a", 1), ("c", 2))}
    assert Workers(pending).runner(serial)(double, calls) == [6, 2, 4]
    assert [line for line in capsys.readouterr().out.splitlines() if "line of" in line] == [
        "line of 3", "line of 1", "line of 2"
    ]  # fmt: skip


def test_a_cell_that_is_tried_again_is_sent_again():
    sent = []

    def submit(cell: bytes) -> Future[tuple[Any, list[str]]]:
        sent.append(cell)
        return pending(cell if len(sent) > 1 else pickle.dumps((double, {"number": -1})))

    def twice(work: Any, calls: Calls) -> list[Any]:
        for arguments in calls.values():
            with pytest.raises(OSError, match="cut"):
                work(**arguments)
        return serial(work, calls)

    assert Workers(submit).runner(twice)(double, {"a": {"number": 5}}) == [10]
    assert len(sent) == 2


def test_when_one_cell_fails_those_that_wait_are_cancelled():
    waiting: list[Future[Any]] = []

    def submit(cell: bytes) -> Future[Any]:
        if b"J\xff\xff\xff\xff" in cell:  # the number -1
            return pending(cell)
        waiting.append(Future())
        return waiting[-1]

    with pytest.raises(OSError, match="cut"):
        Workers(submit).runner(serial)(double, {str(n): {"number": n} for n in (-1, 1, 2)})
    assert [one.cancelled() for one in waiting] == [True, True]


def test_a_worker_of_the_same_code_packages_and_folder_computes_and_its_lines_travel(tmp_path, capsys):
    with reproducing(tmp_path, "a test", wait=False, say=print):
        wanted = conditions(tmp_path, ())
        assert received(wanted, pickle.dumps((double, {"number": 4}))) == (8, ["doubled 4"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": "0" * 16}, ("another code", "0" * 16)),
        ({"versions": (("torch", "1.0"), ("python", "3.9"))}, ("another torch and another python", "expected torch 1.0, python 3.9")),
        ({"run": "of another run"}, ("another folder", "of the run")),
    ],
)  # fmt: skip
def test_any_other_worker_is_refused_and_what_differs_is_named_on_both_sides(tmp_path, changes, words):
    own = conditions(tmp_path, ())
    with pytest.raises(PsrError) as refused:
        received(replace(own, **changes), pickle.dumps((double, {"number": 4})))
    for word in (*words, "process ", "start it from the same checkout"):
        assert word in str(refused.value)
    if "code" in changes:
        assert own.code in str(refused.value)


def test_a_worker_with_two_threads_is_refused(tmp_path):
    wanted = conditions(tmp_path, ())
    with pytest.raises(PsrError, match="--nthreads 1"):
        received(wanted, pickle.dumps((received, {"wanted": wanted, "cell": b"another thread's"})))
    assert received(wanted, pickle.dumps((double, {"number": 4})))[0] == 8


def test_a_plug_of_ones_own_that_differs_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_lab.py").write_text("METHOD = 1\n")
    wanted = conditions(tmp_path, ("my_lab:METHOD",))
    (tmp_path / "my_lab.py").write_text("METHOD = 2\n")
    with pytest.raises(PsrError, match="another my_lab:METHOD"):
        received(wanted, pickle.dumps((double, {"number": 4})))


def test_a_worker_that_serves_another_run_forgets_what_it_remembered(tmp_path):
    read = []
    opened = remembered(None)(lambda path: read.append(path) or path)
    (tmp_path / LOCK).parent.mkdir()
    for run in ("one", "one", "two"):
        (tmp_path / LOCK).write_text(run)
        received(conditions(tmp_path, ()), pickle.dumps((double, {"number": 1})))
        opened("model")
    assert read == ["model", "model"]
    forget()
    opened("model")
    assert len(read) == 3


def test_each_worker_of_a_machine_has_a_gpu_of_its_own_and_shares_where_there_are_fewer():
    assert [gpu_of(worker, ("0", "1", "2", "3")) for worker in range(4)] == ["0", "1", "2", "3"]
    assert [gpu_of(worker, ("2", "5")) for worker in range(5)] == ["2", "5", "2", "5", "2"]
    assert gpu_of(7, ("GPU-4c1f",)) == "GPU-4c1f"


def test_a_cell_that_two_workers_make_at_once_is_kept_once(tmp_path):
    cells = Cells(tmp_path / "cells", "code")

    def write(folder: Path) -> None:
        (folder / "text").write_text("one")
        if not list((tmp_path / "cells/item").glob("[!.]*")):
            cells.keep("item", "same", lambda other: (other / "text").write_text("one"))

    assert (cells.keep("item", "same", write) / "text").read_text() == "one"
    assert len(list((tmp_path / "cells/item").iterdir())) == 1
