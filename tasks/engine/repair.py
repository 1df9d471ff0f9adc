"""Mending what a kill -9 of DVC may leave: its two small files are written in place, so they can be found cut short.

Only called while this process holds the repository's lock, so no other reproduction is writing them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from tasks.engine.files import parse_yaml, write_text

KEPT = Path(".psr", "dvc.lock")


def repair(root: Path, say: Callable[[str], None]) -> None:
    """Drop a damaged or stale `.dvc/tmp/rwlock`; put back the last whole dvc.lock when the present one is damaged."""
    rwlock = root / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists():
        _drop_dead(rwlock)
    lock, kept = root / "dvc.lock", root / KEPT
    if lock.exists() and not _whole(lock) and kept.exists():
        _copy(kept, lock)
        say("dvc.lock was damaged by a run that was killed: its last whole version is back.")


def keep(root: Path) -> None:
    """Keep a copy of dvc.lock if it is whole."""
    lock, kept = root / "dvc.lock", root / KEPT
    if lock.exists() and _whole(lock):
        _copy(lock, kept)


def _drop_dead(path: Path) -> None:
    """Leave only what living processes hold; remove the file when that is nothing or the file is damaged."""
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
    """Whether the process named in a lock's entry still runs: no zombie, and no younger process with its number."""
    try:
        process = psutil.Process(int(entry["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + 2
    except psutil.NoSuchProcess:
        return False


def _whole(lock: Path) -> bool:
    try:
        found = parse_yaml(lock.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return False
    return isinstance(found, dict) and isinstance(found.get("stages", {}), dict) and "schema" in found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    shutil.copyfile(source, aside)
    aside.replace(target)
