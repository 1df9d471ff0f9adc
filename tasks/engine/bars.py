"""The lines of all stages that run, and a bar for each long step, in one terminal.

A stage is no terminal of its own: where someone watches the parent, `tasks.engine.progress` writes marked lines instead of
drawing, and here they become bars under the lines. Elsewhere there are only lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.engine.progress import MARK, RELAY
from tasks.engine.terminal import clean

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_shown: Progress | None = None
_rows: dict[str, TaskID] = {}


@contextmanager
def bars() -> Iterator[None]:
    """Draw bars for as long as the context lasts, if standard output is a terminal."""
    global _shown
    if not sys.stdout.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(), transient=True) as shown:
        _shown = shown
        try:
            yield
        finally:
            _shown = None
            _rows.clear()


def relay() -> dict[str, str]:
    """What a stage's environment needs so that it sends its progress here."""
    return {RELAY: "1"} if _shown is not None else {}


def say(stage: str, line: str) -> None:
    """A line of a stage: progress moves its bar, anything else is printed under the stage's name."""
    if line.startswith(MARK):
        _move(*line.removeprefix(MARK).split("\t"))
    else:
        print(f"{stage.partition('@')[0]:>8} │ {clean(line)}", flush=True)


def _move(label: str, done: str, total: str) -> None:
    if _shown is None:
        return
    if label not in _rows:
        _rows[label] = _shown.add_task(clean(label), total=int(total))
    _shown.update(_rows[label], completed=int(done), total=int(total))
    if done == total:
        _shown.remove_task(_rows.pop(label))
