"""What each stage's last run was like: when, how much of it was its own work, and how it ended.

`.psr/timings/{stage}@{profile}.json`, no output of DVC's: it says nothing about results. The parent reads it to learn
whether DVC ran the stage or skipped it, whether another try may help, and how long the next run may take.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tasks.engine.files import read_json, write_json

RUN = "PSR_RUN"

_work: list[tuple[float, float]] = []


@dataclass(frozen=True)
class Timing:
    """state: "running", "done" or "failed". Times in seconds since 1970; `work` in seconds. `run` names the reproduction."""

    run: str
    stage: str
    state: str
    started: float
    ended: float = 0.0
    work: float = 0.0
    error: str = ""
    retry: bool = True
    input_error: bool = False


@contextmanager
def working() -> Iterator[None]:
    """Count the time inside as the stage's own work, not as the tools' around it."""
    begun = time.time()
    try:
        yield
    finally:
        _work.append((begun, time.time()))


def begin(root: Path, stage: str, run: str) -> Timing:
    """Write that `stage` runs now."""
    _work.clear()
    return _write(root, Timing(run, stage, "running", time.time()))


def end(root: Path, timing: Timing, error: str = "", *, retry: bool = False, input_error: bool = False) -> None:
    """Write how it ended. `retry`: whether the same again may pass; `input_error`: whether the user has to mend it."""
    state = "failed" if error else "done"
    _write(
        root,
        replace(
            timing,
            state=state,
            ended=time.time(),
            work=covered(_work),
            error=error,
            retry=retry,
            input_error=input_error,
        ),
    )


def read_timing(root: Path, stage: str) -> Timing | None:
    """The last run of `stage`, or None."""
    found = read_json(_path(root, stage))
    try:
        return Timing(**found)
    except TypeError:
        return None


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one of the spans (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def _write(root: Path, timing: Timing) -> Timing:
    write_json(_path(root, timing.stage), asdict(timing))
    return timing


def _path(root: Path, stage: str) -> Path:
    return root / ".psr" / "timings" / f"{stage}.json"
