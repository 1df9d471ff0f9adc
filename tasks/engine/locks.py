"""A lock that allows one reproduction at a time in a repository; the system releases it when its process dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psr.errors import PsrError

LOCK = Path(".psr", "reproduce.lock")
_held: set[Path] = set()


@contextmanager
def reproducing(root: Path, about: str, *, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the repository's lock; reentrant within a process. about: the text that other processes show for it.

    While another process holds it: with `wait`, says so once and waits; without, raises PsrError that names it.
    """
    path = root / LOCK
    if path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _take(file.fileno(), path, wait=wait, say=say)
        _held.add(path)
        file.truncate(0)
        json.dump({"pid": os.getpid(), "about": about, "since": time.strftime("%H:%M:%S")}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            _held.discard(path)


def _take(handle: int, path: Path, *, wait: bool, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        if not wait:
            raise PsrError(
                f"{holder(path)} in this repository", do="Wait for it, or run again without --no-wait."
            ) from None
        say(f"{holder(path)} in this repository: waiting for it to end.")
        fcntl.flock(handle, fcntl.LOCK_EX)


def holder(path: Path) -> str:
    """A sentence that names the process holding the lock."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return f"{record['about']} runs since {record['since']} (process {record['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another reproduction runs"
