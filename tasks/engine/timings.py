"""Seconds of each step's last run, for the estimate of the next run and the overhead of orchestration.

Stored in `.psr/timings/{step}@{profile}.json`, outside DVC: results do not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.engine.files import read_json, write_json


@contextmanager
def timed(root: Path, step: str) -> Iterator[None]:
    """Store the seconds that the context took, if it raises nothing."""
    begun = time.monotonic()
    yield
    write_json(_path(root, step), time.monotonic() - begun)


def seconds_of(root: Path, step: str) -> float | None:
    """Seconds of the step's last run in this checkout; None where there was none."""
    seconds = read_json(_path(root, step))
    return float(seconds) if isinstance(seconds, int | float) else None


def _path(root: Path, step: str) -> Path:
    return root / ".psr" / "timings" / f"{step}.json"
