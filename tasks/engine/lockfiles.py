"""What the lock files record of a profile's steps, without importing DVC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psr.types import short_hash
from tasks.engine.files import parse_yaml

LOCKS = ("dvc.lock", "data/profiles/dvc.lock")
CODE = ("psr", "tasks", "flows")
SETTINGS = "data/{profile}/settings.yaml"  # what a profile sets, resolved (flows/params.py)
PLUGS = "plugs."  # the parameters there that stand for somebody's own code


def recorded(root: Path, profile: str) -> dict[str, Any]:
    """step -> its entry, without the profile in its name."""
    found: dict[str, Any] = {}
    for lock in (root / name for name in LOCKS if (root / name).exists()):
        stages = (parse_yaml(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        found |= {name.partition("@")[0]: entry for name, entry in stages.items() if name.endswith(f"@{profile}")}
    return found


def outputs(root: Path, profile: str) -> dict[str, str]:
    """step -> a hash of its outputs."""
    return {name: short_hash("outputs", entry.get("outs")) for name, entry in recorded(root, profile).items()}


def versions(root: Path, profile: str) -> dict[str, str]:
    """step -> the version of the code that it ran on."""
    return {
        name: code_version(
            {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", ())}
            | {name: repr(value) for values in entry.get("params", {}).values() for name, value in values.items()}
        )
        for name, entry in recorded(root, profile).items()
    }


def code_version(reads: Mapping[str, str]) -> str:
    """A hash of those of the files and folders (path -> hash) and parameters (name -> value as text) that are code."""
    ours = [(path, value) for path, value in reads.items() if path.split("/")[0] in CODE]
    others = [(name, value) for name, value in reads.items() if name.startswith(PLUGS) and value != "{}"]
    return short_hash("code", sorted(ours + others))


def code_of(root: Path, *folders: str) -> str:
    """A hash of the code in `folders`, for work that is no step."""
    files = sorted(path for folder in folders for path in (root / folder).rglob("*") if path.suffix in (".py", ".sql"))
    return short_hash("code", [(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in files])
