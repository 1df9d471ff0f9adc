"""Cells: finished pieces of work, kept under a hash of their inputs and shared by all runs and experiments.

    .psr/cells/{kind}/{key}/...        the cell's files
    .psr/cells/{kind}/{key}/SUMS       their hashes, to check that the cell is intact

A cell is an attribute × method × seed, or a batch of questions. Its key is a hash of the texts, parameters, model and
code that it reads, never of what it does not, so a killed run continues, adding a method fits that method alone,
and experiments share cells. A cell is written to a temporary folder and renamed; one that does not match its SUMS is
made again. Cells can be recreated at any time: `python -m flows.cells --prune` removes them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from psr.types import short_hash
from tasks.engine.files import read_json, write_json
from tasks.engine.progress import say

HOME = Path(".psr", "cells")
SUMS = "SUMS"
ASIDE = ".aside-"
DAY = 86400.0
F = TypeVar("F", bound=Callable[..., Any])
_remembered: list[Any] = []


@dataclass(frozen=True)
class Cells:
    """The cells of one repository and one version of the code. Small and picklable."""

    folder: Path
    code: str

    def keep(self, kind: str, reads: object, write: Callable[[Path], object]) -> Path:
        """The folder of the cell with the inputs `reads`: the kept one, or a new one filled by `write(folder)`.

        reads: everything that the result depends on, as values of JSON.
        """
        cell = self.find(kind, reads)
        if cell is not None:
            return cell
        target = self._target(kind, reads)
        aside = target.with_name(f"{ASIDE}{uuid4().hex}")
        aside.mkdir(parents=True)
        try:
            write(aside)
            write_json(aside / SUMS, _sums(aside))
            try:
                aside.rename(target)
            except OSError:  # another process may have made the same cell meanwhile
                if not target.exists():
                    raise
        finally:
            remove(aside)
        return target

    def find(self, kind: str, reads: object) -> Path | None:
        """The folder of a finished cell, or None. A damaged one is removed, with a message."""
        target = self._target(kind, reads)
        if not target.exists():
            return None
        if is_intact(target):
            os.utime(target / SUMS)
            return target
        say(f"a finished part is damaged and made again: {target.relative_to(self.folder.parents[1])}")
        remove(target)
        return None

    def exists(self, kind: str, reads: object) -> bool:
        """Whether there is a cell with these inputs; its files are not read."""
        return self._target(kind, reads).exists()

    def _target(self, kind: str, reads: object) -> Path:
        return self.folder / kind / short_hash("cell", self.code, kind, reads)


def remembered(size: int | None) -> Callable[[F], F]:
    """Keep the last `size` results of a function in memory for one run: a worker that serves another one forgets them."""

    def keep(function: F) -> F:
        cached: Any = lru_cache(maxsize=size)(function)
        _remembered.append(cached)
        return cached  # type: ignore[no-any-return]

    return keep


def forget() -> None:
    """Empty the memory of all functions that are `remembered`."""
    for cached in _remembered:
        cached.cache_clear()


def is_intact(cell: Path) -> bool:
    """Whether the cell's files are those that were written."""
    return read_json(cell / SUMS) == _sums(cell)


def sizes(root: Path) -> dict[str, tuple[int, int]]:
    """kind -> (number of cells, bytes) of the repository at `root`."""
    kinds = sorted(path for path in (root / HOME).glob("*") if path.is_dir())
    return {kind.name: (sum(1 for _ in _cells(kind)), sum(map(_bytes, _cells(kind)))) for kind in kinds}


def prune(root: Path, days: float) -> tuple[int, int]:
    """Remove the cells that no run has used for `days`, and leftovers of killed runs: (number of cells, bytes)."""
    before = time.time() - days * DAY
    old = [cell for kind in (root / HOME).glob("*") for cell in _cells(kind) if _used(cell) <= before]
    freed = sum(map(_bytes, old))
    left = [path for path in (root / HOME).glob(f"*/{ASIDE}*") if path.stat().st_mtime <= time.time() - DAY]
    for path in [*old, *left]:
        remove(path)
    return len(old), freed


def copy(source: Path, target: Path) -> None:
    """Put a cell's file or folder into an output, as hard links where the file system has them."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SUMS))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: str | Path, target: str | Path) -> None:
    Path(target).unlink(missing_ok=True)  # never into a file that a cell or DVC's cache shares
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sums(cell: Path) -> dict[str, str]:
    files = sorted(path for path in cell.rglob("*") if path.is_file() and path.name != SUMS)
    return {path.relative_to(cell).as_posix(): _hash(path) for path in files}


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cells(kind: Path) -> list[Path]:
    return [path for path in kind.glob("*") if path.is_dir() and not path.name.startswith(".")]


def _used(cell: Path) -> float:
    sums = cell / SUMS
    return sums.stat().st_mtime if sums.exists() else 0.0


def _bytes(cell: Path) -> int:
    return sum(path.stat().st_size for path in cell.rglob("*") if path.is_file())
