"""Repair of dvc.lock and DVC's rwlock after a kill: DVC writes both in place, so they can be truncated.

Only called while this process holds the repository's lock, so no other reproduction writes them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from psr.types import short_hash
from tasks.engine.files import parse_yaml, write_text
from tasks.engine.lockfiles import LOCKS


def repair(root: Path, say: Callable[[str], None]) -> None:
    """Remove a damaged or stale `.dvc/tmp/rwlock`; replace a dvc.lock that is damaged, or was being written
    when a run was killed, by its last valid copy. Without a copy it is removed: DVC's cache restores the steps."""
    rwlock = root / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists():
        _drop_dead(rwlock)
    for name in LOCKS:
        lock, kept = root / name, _kept(root, name)
        if lock.exists() and (_mark(root).exists() or not _is_valid(lock)):
            if kept.exists():
                _copy(kept, lock)
            else:
                lock.unlink()
            end = "its last whole version is back" if kept.exists() else "it is removed and will be written again"
            say(f"{name} was damaged by a run that was killed: {end}.")
    _mark(root).unlink(missing_ok=True)


def keep(root: Path) -> None:
    """Copy every valid dvc.lock, for `repair`."""
    for name in LOCKS:
        if (root / name).exists() and _is_valid(root / name):
            _copy(root / name, _kept(root, name))


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Write a lock file in this context: if the process is killed meanwhile, `repair` restores the previous version."""
    keep(root)
    write_text(_mark(root), "")
    yield
    _mark(root).unlink()
    keep(root)


def _mark(root: Path) -> Path:
    return root / ".psr" / "locks" / "writing"


def _kept(root: Path, name: str) -> Path:
    return root / ".psr" / "locks" / f"{short_hash(name)}.lock"


def _drop_dead(path: Path) -> None:
    """Keep only the entries of living processes; remove the file where none is left or it is damaged."""
    try:
        locks = json.loads(path.read_text(encoding="utf-8"))
        moment = path.stat().st_mtime
        read = {name: [e for e in held if _holds(e, moment)] for name, held in locks.get("read", {}).items()}
        write = {name: entry for name, entry in locks.get("write", {}).items() if _holds(entry, moment)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        read, write = {}, {}
    living = {"read": {name: held for name, held in read.items() if held}, "write": write}
    if living["read"] or living["write"]:
        write_text(path, json.dumps(living))
    else:
        path.unlink()


def _holds(entry: dict[str, Any], moment: float) -> bool:
    """Whether the process of a lock's entry still runs, and is no zombie and no newer process with its number."""
    try:
        process = psutil.Process(int(entry["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + 2
    except psutil.NoSuchProcess:
        return False


def _is_valid(lock: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(lock.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, OSError, Invalid):
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside-{os.getpid()}")
    shutil.copyfile(source, aside)
    aside.replace(target)
