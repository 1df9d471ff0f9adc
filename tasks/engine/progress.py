"""What a step says while it runs: lines under its name, and a bar for each long part where someone watches.

Lines go to the terminal and, while Prefect runs the step, into the log of its flow run.
"""

from __future__ import annotations

import logging
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WORTH_SAYING = 1.0  # seconds
_UNSEEN = ("Cc", "Cf", "Cs")  # control, format (bidirectional marks, zero widths), lone surrogates
_step = ""
_log: logging.Logger | logging.LoggerAdapter[Any] | None = None


@contextmanager
def speaking(step: str, log: logging.Logger | logging.LoggerAdapter[Any] | None = None) -> Iterator[None]:
    """Name the step that speaks from now on, and where its lines are kept too."""
    global _step, _log
    before = _step, _log
    _step, _log = step, log
    try:
        yield
    finally:
        _step, _log = before


def say(line: str) -> None:
    """One line of the step that runs, or of none."""
    print(f"{_step:>8} │ {clean(line)}" if _step else clean(line), flush=True)
    if _log is not None:
        _log.info(line)


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`; says "label: N unit in T s" at the end of what took a second or more."""
    if total == 0:
        yield lambda n: None
        return
    started = time.monotonic()
    if sys.stderr.isatty():
        with _bar() as bar:
            row = bar.add_task(f"{clean(label)} ({unit})", total=total)
            yield lambda n: bar.advance(row, n)
    else:
        yield lambda n: None
    taken = time.monotonic() - started
    if taken >= WORTH_SAYING:
        say(f"{label}: {total} {unit} in {taken:.1f} s")


def _bar():  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True)


def clean(value: object) -> str:
    """`value` as text that moves no cursor and colours no screen: control characters as escapes (`\\x1b`), tabs as spaces."""
    text = str(value).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c == "\n" or unicodedata.category(c) not in _UNSEEN else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
