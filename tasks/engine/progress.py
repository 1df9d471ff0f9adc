"""A step's messages, and progress bars on a terminal. Under Prefect, messages also go to the log of the flow run."""

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
_collected: list[str] | None = None


@contextmanager
def speaking(step: str, log: logging.Logger | logging.LoggerAdapter[Any] | None = None) -> Iterator[None]:
    """While open, `say` prints under this step's name, and also writes to `log`."""
    global _step, _log
    before = _step, _log
    _step, _log = step, log
    try:
        yield
    finally:
        _step, _log = before


@contextmanager
def collected() -> Iterator[list[str]]:
    """While open, `say` adds to the list that this yields, and prints nothing: a worker's lines, which the run says."""
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


def say(line: str) -> None:
    """Print one line, under the name of the current step if there is one."""
    if _collected is not None:
        _collected.append(line)
        return
    print(f"{_step:>8} │ {clean(line)}" if _step else clean(line), flush=True)
    if _log is not None:
        _log.info(line)


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`; at the end, after a second or more, says "label: N unit in T s"."""
    if total == 0:
        yield lambda n: None
        return
    started = time.monotonic()
    if sys.stderr.isatty() and _collected is None:
        with _bar() as bar:
            row = bar.add_task(f"{clean(label)} ({unit})", total=total)
            yield lambda n: bar.advance(row, n)
    else:
        yield lambda n: None
    seconds = time.monotonic() - started
    if seconds >= WORTH_SAYING:
        say(f"{label}: {total} {unit} in {seconds:.1f} s")


def _bar():  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True)


def clean(value: object) -> str:
    """`value` as text that is safe on a terminal: control characters as escapes (`\\x1b`), tabs as spaces."""
    text = str(value).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c == "\n" or unicodedata.category(c) not in _UNSEEN else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
