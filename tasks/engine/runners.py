"""Runners of a step's cells: one after the other in this process, or in worker processes of Dask or Ray.

A runner takes a function and the calls to it (name -> arguments), and returns the results in order. Arguments are small
and picklable (paths, names, numbers). Workers see the repository's folder under the same path, open the model once, and
compute one cell at a time. A cell whose worker is lost is computed again by another; what is finished is on disk.
"""

from __future__ import annotations

import os
import pickle
import platform
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from psr.errors import PsrError
from tasks.engine.cells import forget
from tasks.engine.disk import disk_error
from tasks.engine.inputs import plug_code
from tasks.engine.locks import LOCK
from tasks.engine.pipeline import LOADED
from tasks.engine.progress import collected, say

T = TypeVar("T")
Calls = Mapping[str, Mapping[str, Any]]
Runner = Callable[[Callable[..., Any], Calls], list[Any]]
TRANSPORT = ("httpx", "httpcore", "websockets", "sqlalchemy", "sqlite3")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


def serial(work: Callable[..., T], calls: Calls) -> list[T]:
    """Run the calls one after the other."""
    return [work(**arguments) for arguments in calls.values()]


def prefect(work: Callable[..., T], calls: Calls) -> list[T]:
    """Run each call as a Prefect task run, one after the other (the model's threads fill the machine); see `may_pass`."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    def may_pass_again(_task: Any, _run: Any, state: Any) -> bool:
        return may_pass(state.result(raise_on_failure=False))

    cell = task(
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=2,
        retry_delay_seconds=[1, 5],
        retry_condition_fn=may_pass_again,
    )(work)
    return [cell.with_options(task_run_name=name)(**arguments) for name, arguments in calls.items()]


def may_pass(error: object) -> bool:
    """Whether a retry may succeed: not after an input error, a disk error or a bug."""
    if not isinstance(error, BaseException) or isinstance(error, PsrError) or disk_error(error) is not None:
        return bool(getattr(error, "retryable", False))
    return isinstance(error, OSError | EOFError) or type(error).__module__.partition(".")[0] in TRANSPORT


class Pending(Protocol):
    """The result of a cell that a worker computes."""

    def result(self) -> tuple[Any, list[str]]:
        """Wait for what `received` returns. Raises what it raised, and PsrError where no worker can compute the cell."""

    def cancel(self) -> object:
        """Compute it no more, if it has not begun."""


@dataclass(frozen=True)
class Workers:
    """Worker processes: submit(cell), the cell being what `received` takes."""

    submit: Callable[[bytes], Pending]

    def runner(self, shown: Runner = prefect) -> Runner:
        """Sends all calls at once. shown: the runner, in this process, of the waiting for each."""

        def run(work: Callable[..., T], calls: Calls) -> list[T]:
            def sent(name: str) -> Pending:
                return self.submit(pickle.dumps((work, dict(calls[name]))))

            ahead = {name: sent(name) for name in calls}

            def arrived(name: str) -> T:
                pending = ahead.pop(name, None) or sent(name)  # no longer there: it failed and is tried again
                result, lines = pending.result()
                for line in lines:
                    say(line)
                return result

            try:
                return shown(arrived, {name: {"name": name} for name in calls})
            finally:
                for pending in ahead.values():
                    pending.cancel()

        return run


@dataclass(frozen=True)
class Conditions:
    """What a worker has in common with the run whose cells it computes. run: the text of the repository's lock, which
    differs from run to run; code: a hash of the project's code as loaded; versions: of Python, packages and plugs."""

    root: Path
    run: str
    code: str
    versions: tuple[tuple[str, str], ...]
    plugs: tuple[str, ...] = ()


def conditions(root: Path, plugs: Iterable[str]) -> Conditions:
    """Those of this process. plugs: dotted paths of a user's own methods, judges and benchmarks."""
    lock, plugs = root / LOCK, tuple(plugs)
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}, **plug_code(plugs)}
    run = lock.read_text(encoding="utf-8") if lock.exists() else "not there"
    return Conditions(root, run, LOADED, tuple(versions.items()), plugs)


def received(wanted: Conditions, cell: bytes) -> tuple[Any, list[str]]:
    """Compute a cell in a worker: its result, and the lines that it said. Raises PsrError where the worker differs from the
    run in code, packages or folder, or computes a cell already; a disk error as PsrError."""
    if not _busy.acquire(blocking=False):
        raise PsrError(
            "a worker was given two cells at once",
            where=_name(),
            do="Start workers with one thread, --nthreads 1: the cells of a process share its model.",
        )
    try:
        return _computed(wanted, cell)
    finally:
        _busy.release()


def _computed(wanted: Conditions, cell: bytes) -> tuple[Any, list[str]]:
    global _served
    if wanted != _served:
        refuse(wanted, conditions(wanted.root, wanted.plugs))
        forget()  # models and tables of another run
        os.chdir(wanted.root)  # parameters name models and benchmarks relative to it
        _served = wanted
    work, arguments = pickle.loads(cell)  # noqa: S301 - sent by the run that this worker serves
    with collected() as lines:
        try:
            return work(**arguments), lines
        except Exception as error:
            if problem := disk_error(error):
                raise problem from error
            raise


_served: Conditions | None = None  # those of the run that this process computes cells of
_busy = threading.Lock()


def refuse(wanted: Conditions, own: Conditions) -> None:
    """Raise PsrError, which names the worker and all that differs, where a worker's `own` conditions are not the run's."""
    if own == wanted:
        return
    pairs = {"code": (wanted.code, own.code)}
    pairs |= {name: (value, dict(own.versions).get(name, "")) for name, value in wanted.versions}
    other = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if own.run != wanted.run:
        other["folder"] = (f"{wanted.root} of the run", "another, or none")
    expected, got = (", ".join(f"{name} {pair[at]}" for name, pair in other.items()) for at in (0, 1))
    raise PsrError(
        f"a worker has another {' and another '.join(other)}",
        where=_name(),
        expected=expected,
        got=got,
        do="End it, and start it from the same checkout and environment as the run; what was finished is kept.",
    )


def _name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
