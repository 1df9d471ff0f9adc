"""What a stage reads, hashed: the key of its scratch folder, and the proof that nothing changed while it ran.

DVC writes a stage's dependencies and parameters into dvc.lock as they are AFTER the command (iterative/dvc#11058): an
edit during the run would be recorded as what the run was made from. So a stage looks again at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.types import short_hash

Stat = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """The files a stage depends on (path -> (size, time), path -> hash) and its sections of the parameters."""

    root: Path
    deps: tuple[str, ...]
    sections: dict[str, Any]
    stats: dict[str, Stat]
    hashes: dict[str, str]

    @property
    def key(self) -> str:
        """16 hex digits that change with any byte the stage reads."""
        return short_hash("inputs", sorted(self.hashes.items()), self.sections)


def read_inputs(root: Path, deps: Sequence[str], sections: dict[str, Any]) -> Inputs:
    """Hash every file of every dependency. Raises PsrError for one that is missing."""
    stats = dict(_stats(root, deps))
    hashes = {path: _hash(root / path) for path in stats}
    return Inputs(root, tuple(deps), sections, stats, hashes)


def changes(before: Inputs, sections: dict[str, Any]) -> list[str]:
    """What is no longer as it was: files (by content) and sections of the parameters."""
    now = dict(_stats(before.root, before.deps))
    files = [path for path in {**before.stats, **now} if _changed(path, before, now)]
    changed = [f"params.yaml {name}" for name in before.sections if before.sections[name] != sections.get(name)]
    return sorted(files) + changed


def _changed(path: str, before: Inputs, now: dict[str, Stat]) -> bool:
    if path not in now or path not in before.stats:
        return True
    return now[path] != before.stats[path] and _hash(before.root / path) != before.hashes[path]


def _stats(root: Path, deps: Sequence[str]) -> Iterator[tuple[str, Stat]]:
    for dep in deps:
        top = root / dep
        if not top.exists():
            raise PsrError("an input is missing", where=dep, do="Run python -m flows.reproduce, which makes it first.")
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                stat = path.stat()
                yield (
                    (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(),
                    (stat.st_size, stat.st_mtime_ns),
                )


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
