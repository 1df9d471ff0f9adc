"""Progress of one long step: a bar in a terminal, one line when done anywhere else.

Under a parent that has the terminal (RELAY in the environment), marked lines tell it how far the step is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WORTH_SAYING = 1.0  # seconds
RELAY = "PSR_PROGRESS"
MARK = "\x1fprogress "
EVERY = 0.25  # seconds between two marked lines


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. Where nobody watches, prints "label: N unit in T s" at the end of what took a second or more."""
    if total == 0:
        yield lambda n: None
        return
    started = time.monotonic()
    if sys.stderr.isatty():
        with _bar() as bar:
            row = bar.add_task(f"{label} ({unit})", total=total)
            yield lambda n: bar.advance(row, n)
    elif os.environ.get(RELAY):
        yield _teller(label, total)
        _tell(label, total, total)
    else:
        yield lambda n: None
    taken = time.monotonic() - started
    if taken >= WORTH_SAYING:
        print(f"{label}: {total} {unit} in {taken:.1f} s", flush=True)


def _teller(label: str, total: int) -> Callable[[int], None]:
    done, told = 0, 0.0

    def advance(n: int) -> None:
        nonlocal done, told
        done += n
        if time.monotonic() - told >= EVERY:
            told = time.monotonic()
            _tell(label, min(done, total - 1), total)

    return advance


def _tell(label: str, done: int, total: int) -> None:
    print(f"{MARK}{label}\t{done}\t{total}", flush=True)


def _bar():  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
