"""DVC's repository: opened without its log, locked for one process, and its errors as one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from tasks.engine.checkout import no_repository, restoring

PATIENCE = 60.0  # seconds to wait for another DVC process
FILES = (  # what DVC reads in the repository, longer names first
    "data/profiles/dvc.yaml", "data/profiles/dvc.lock", "data/dvc.yaml", "data/dvc.lock", "dvc.yaml", "dvc.lock", "params.yaml"
)  # fmt: skip


def repository(root: Path) -> Any:
    """DVC's repository, its log silenced: its errors say the same."""
    from dvc.repo import Repo

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # importing dvc sets another level
    return Repo(str(root))


@contextmanager
def locked(root: Path, repo: Any) -> Iterator[None]:
    """Hold DVC's lock on the repository, waiting while e.g. `dvc status` holds it; DVC's errors as PsrError."""
    from dvc.lock import LockError

    end = time.monotonic() + PATIENCE
    with clearly(root):
        while True:
            try:
                repo.lock.lock()
                break
            except LockError:  # it has waited for three seconds itself
                if time.monotonic() > end:
                    raise
        try:
            yield
        finally:
            repo.lock.unlock()


@contextmanager
def clearly(root: Path) -> Iterator[None]:
    """Raise DVC's errors as PsrError."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise _clear(root, error) from error


def _clear(root: Path, error: Exception) -> PsrError:
    from dvc.lock import LockError
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError
    from dvc.scm import SCMError

    message = " ".join(str(error).split())
    if isinstance(error, RWLockFileCorruptedError | RWLockFileFormatError):
        return PsrError("DVC's own lock file is damaged", where=".dvc/tmp/rwlock", do="Run again: it is repaired.")
    if isinstance(error, LockError) or "is busy" in message:
        return PsrError(
            "another DVC process is working in this repository", got=message, do="Wait for it to end, or end it."
        )
    if isinstance(error, SCMError) and "not a git repository" in message:
        return no_repository(root)
    file = ".dvc/config" if message.startswith("config file error") else next((f for f in FILES if f in message), "")
    command = restoring(root, file) if file else ""
    do = f"Correct {file or 'what it names'}" + (f", or bring the committed one back by {command}." if command else ".")
    return PsrError("DVC cannot read the pipeline", got=message.rstrip("."), do=do)
