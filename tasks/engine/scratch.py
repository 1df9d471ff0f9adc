"""Finished items of an unfinished stage, so that a killed run goes on where it stopped.

DVC deletes a stage's outputs before it runs, so they cannot hold what a killed run had finished. A scratch folder can:
`.psr/scratch/{stage}/{key}/`, where `key` is the hash of everything the stage reads. An item is written aside and
moved into place, so an item that exists is whole. When the inputs change the key does, and nothing stale is found.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from psr.types import short_hash

ASIDE = ".aside-"
FINISHED = ".finished"
LEFT_OVER = 600.0  # seconds after which DVC has surely recorded a finished stage
LONGEST = 200  # of the 255 bytes a file system allows, with room for what is put before


@dataclass(frozen=True)
class Scratch:
    """The folder of one stage and one set of inputs. Small: hand it from task to task and from process to process."""

    folder: Path

    def get(self, item: str) -> Path | None:
        """Where the finished `item` (a file or a folder) is, or None."""
        path = self.folder / _file_name(item)
        return path if path.exists() else None

    def put(self, item: str, write: Callable[[Path], object]) -> Path:
        """Keep `item`: `write(path)` makes a file or a folder at a path where nothing is; then it is moved into place.

        An item of that name that is already there is replaced. What a failed `write` left behind is removed.
        """
        target = self.folder / _file_name(item)
        aside = self.folder / f"{ASIDE}{os.getpid()}-{target.name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        remove(aside)
        try:
            write(aside)
            if target.is_dir():
                remove(target)
            os.replace(aside, target)
        finally:
            remove(aside)
        return target

    def within(self, name: str) -> Scratch:
        """A scratch of its own inside this one: its items are looked through without those of others."""
        return Scratch(self.folder / _file_name(f"within-{name}"))

    def items(self, prefix: str = "") -> list[Path]:
        """The finished items whose names begin with `prefix`, sorted by name."""
        if not self.folder.is_dir():
            return []
        start = _file_name(prefix) if prefix else ""
        return sorted(p for p in self.folder.iterdir() if p.name.startswith(start) and not p.name.startswith("."))


def scratch_of(root: Path, stage: str, key: str) -> Scratch:
    """The scratch folder of `stage` for inputs whose hash is `key`; folders for other inputs are removed."""
    folder = root / ".psr" / "scratch" / stage / key
    if folder.parent.is_dir():
        for other in folder.parent.iterdir():
            if other.name != key:
                remove(other)
    return Scratch(folder)


@contextmanager
def scratch(root: Path, stage: str, key: str) -> Iterator[Scratch]:
    """The scratch folder for the time of a stage: kept if the stage fails or is killed, marked when it has finished.

    It is not removed here: DVC has yet to record the outputs, and may be killed before it does. discard() removes it
    then; what nobody discarded (DVC was run by hand) is removed when a later stage starts.
    """
    for marker in (root / ".psr" / "scratch").glob(f"*/*/{FINISHED}"):
        if time.time() - marker.stat().st_mtime > LEFT_OVER and marker.parents[1].name != stage:
            remove(marker.parents[1])
    kept = scratch_of(root, stage, key)
    yield kept
    if kept.folder.is_dir():
        (kept.folder / FINISHED).touch()


def discard(root: Path, stage: str) -> None:
    """Remove the scratch folder of a stage whose outputs are recorded."""
    remove(root / ".psr" / "scratch" / stage)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _file_name(item: str) -> str:
    """One safe name: no separators, no leading dot, and short enough for any file system."""
    name = quote(item, safe=" =+,@")
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 17]}-{short_hash(item)}"
