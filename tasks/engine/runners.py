"""Who runs the cells of a step: this process one after the other, or Prefect as task runs that it shows and retries.

A runner is a function of a piece of work and of the calls to it, a name and its arguments each; it returns what they
return, in order. The arguments are small and can be pickled (paths, names, numbers), so that a cell can run elsewhere.
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
    """One after the other, here."""
    return [work(**arguments) for arguments in calls.values()]


def prefect(work: Callable[..., T], calls: Calls) -> list[T]:
    """One after the other, here: the model's threads fill the machine. Each is a task run, tried again where that helps."""
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
    """Whether the same again may go well: not for what the user has to mend, and not for a bug."""
    if not isinstance(error, BaseException) or isinstance(error, PsrError) or disk_error(error) is not None:
        return bool(getattr(error, "retryable", False))
    return isinstance(error, OSError | EOFError) or type(error).__module__.partition(".")[0] in TRANSPORT
