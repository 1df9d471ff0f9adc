"""Runners of a step's cells: serial in this process, or as Prefect task runs with retries.

A runner takes a function and the calls to it (name -> arguments), and returns the results in order. Arguments are small
and picklable (paths, names, numbers), so that a runner may use other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from psr.errors import PsrError
from tasks.engine.disk import disk_error

T = TypeVar("T")
Calls = Mapping[str, Mapping[str, Any]]
Runner = Callable[[Callable[..., Any], Calls], list[Any]]
TRANSPORT = ("httpx", "httpcore", "websockets", "sqlalchemy", "sqlite3")


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
