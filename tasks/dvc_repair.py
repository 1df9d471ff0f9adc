"""Mending what a kill -9 of DVC may leave: its two small files are written in place, so they can be found cut short.

Only called while this process holds the repository's lock, so no other reproduction is writing them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

KEPT = Path(".psr", "dvc.lock")


def repair(root: Path, say: Callable[[str], None]) -> None:
    """Drop a damaged or stale `.dvc/tmp/rwlock`; put back the last whole dvc.lock when the present one is damaged."""
    rwlock = root / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists() and not _has_living_owner(rwlock):
        rwlock.unlink()
    lock, kept = root / "dvc.lock", root / KEPT
    if lock.exists() and not _whole(lock) and kept.exists():
        _copy(kept, lock)
        say("dvc.lock was damaged by a run that was killed: its last whole version is back.")


def keep(root: Path) -> None:
    """Keep a copy of dvc.lock if it is whole."""
    lock, kept = root / "dvc.lock", root / KEPT
    if lock.exists() and _whole(lock):
        _copy(lock, kept)


def _has_living_owner(path: Path) -> bool:
    """Whether a process that is named in the file, and is older than it, still runs. A new one may have an old one's id."""
    try:
        locks = json.loads(path.read_text(encoding="utf-8"))
        owners = [entry["pid"] for held in locks.get("read", {}).values() for entry in held]
        owners += [entry["pid"] for entry in locks.get("write", {}).values()]
        return any(_older(int(pid), path.stat().st_mtime) for pid in owners)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _older(pid: int, moment: float) -> bool:
    try:
        return psutil.Process(pid).create_time() <= moment + 2
    except psutil.NoSuchProcess:
        return False


def _whole(lock: Path) -> bool:
    try:
        found = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return False
    return isinstance(found, dict) and isinstance(found.get("stages", {}), dict) and "schema" in found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    shutil.copyfile(source, aside)
    aside.replace(target)
