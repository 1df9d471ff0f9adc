"""Room on the disk, asked before much is written; errors of a full or read-only disk as a PsrError of one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from psr.errors import PsrError

REASONS = {
    errno.ENOSPC: ("the disk is full", "Make room"),
    errno.EDQUOT: ("the disk quota is used up", "Make room"),
    errno.EROFS: ("the disk is read-only", "Work in a folder that can be written to"),
    errno.EFBIG: ("a file may not grow that large", "Raise the limit (ulimit -f)"),
    errno.EACCES: ("a file may not be written or read", "Set its permissions"),
}
LEAST = 1_000_000  # free bytes below which the Prefect server cannot write its database
WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "File too large": errno.EFBIG,
    "database or disk is full": errno.ENOSPC,
}


def disk_error(error: BaseException | None) -> PsrError | None:
    """A PsrError for the disk error behind `error` or its causes, or None. Some libraries report it as text only."""
    seen: set[int] = set()
    if type(error).__module__.startswith("prefect") and shutil.disk_usage(".").free < LEAST:
        return PsrError(
            REASONS[errno.ENOSPC][0], where=os.getcwd(), do="Make room and run again: what was finished is kept."
        )
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        number = number if number in REASONS else _in_words(str(error))
        if number in REASONS:
            what, do = REASONS[number]
            where = getattr(error, "filename", None) or ""
            return PsrError(what, where=where, do=f"{do} and run again: what was finished is kept.")
        error = error.__cause__ or error.__context__
    return None


def _in_words(text: str) -> int | None:
    return next((number for words, number in WORDS.items() if words in text), None)


def check_room(folders: Iterable[Path], needed: int, what: str, do: str) -> None:
    """Raise PsrError where the disk of one of `folders` has fewer than `needed` bytes free. what: they will be; do: the advice."""
    for folder in folders:
        free = shutil.disk_usage(next(path for path in (folder, *folder.resolve().parents) if path.exists())).free
        if free < needed:
            raise PsrError(
                f"the disk has no room for the {what}",
                where=folder,
                expected=f"{_size(needed)} free",
                got=_size(free),
                do=do,
            )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
