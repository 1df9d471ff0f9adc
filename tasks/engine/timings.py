"""How long each step's own work took when it last ran: what the estimate of the next run and the share of the tools go by.

`.psr/timings/{step}@{profile}.json`, no output of DVC's: it says nothing about results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.engine.files import read_json, write_json


@contextmanager
def timed(root: Path, step: str) -> Iterator[None]:
    """Keep how many seconds the context took, if it ends well."""
    begun = time.monotonic()
    yield
    write_json(_path(root, step), time.monotonic() - begun)


def seconds_of(root: Path, step: str) -> float | None:
    """Seconds of the step's last run in this checkout; None where there was none."""
    known = read_json(_path(root, step))
    return float(known) if isinstance(known, int | float) else None


def _path(root: Path, step: str) -> Path:
    return root / ".psr" / "timings" / f"{step}.json"
