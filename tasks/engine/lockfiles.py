"""DVC's lock files read without DVC: the outputs and code versions recorded for a profile's steps, and hashes of code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psr.types import short_hash
from tasks.engine.files import parse_yaml

LOCKS = ("dvc.lock", "data/profiles/dvc.lock")
CODE = ("psr", "tasks", "flows")
SETTINGS = "data/{profile}/settings.yaml"  # what a profile sets, resolved (flows/params.py)
PLUGS = "plugs."  # parameters in SETTINGS that are hashes of a user's own code


def recorded(root: Path, profile: str) -> dict[str, Any]:
    """step, without the profile -> its entry in a lock file."""
    entries: dict[str, Any] = {}
    for lock in (root / name for name in LOCKS if (root / name).exists()):
        stages = (parse_yaml(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        entries |= {name.partition("@")[0]: entry for name, entry in stages.items() if name.endswith(f"@{profile}")}
    return entries


def outputs(root: Path, profile: str) -> dict[str, str]:
    """step -> a hash of its outputs."""
    return {name: short_hash("outputs", entry.get("outs")) for name, entry in recorded(root, profile).items()}


def studies(root: Path, profile: str) -> dict[str, str]:
    """study -> a hash of what it measured, from its .dvc file."""
    files = sorted((root / "data" / profile).glob("*.dvc"))
    return {file.stem: short_hash("study", file.read_text(encoding="utf-8")) for file in files}


def versions(root: Path, profile: str) -> dict[str, str]:
    """step -> the version of the code that it ran with."""
    return {
        name: code_version(
            {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", ())}
            | {name: repr(value) for values in entry.get("params", {}).values() for name, value in values.items()}
        )
        for name, entry in recorded(root, profile).items()
    }


def code_version(reads: Mapping[str, str]) -> str:
    """A hash of those entries of `reads` that are code: paths -> their hash, parameters -> their value as text."""
    code = [(path, value) for path, value in reads.items() if path.split("/")[0] in CODE]
    plugs = [(name, value) for name, value in reads.items() if name.startswith(PLUGS) and value != "{}"]
    return short_hash("code", sorted(code + plugs))


def code_of(root: Path, *folders: str) -> str:
    """A hash of the Python and SQL files in `folders`, for work that is not a step."""
    files = sorted(path for folder in folders for path in (root / folder).rglob("*") if path.suffix in (".py", ".sql"))
    return short_hash("code", [(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in files])
