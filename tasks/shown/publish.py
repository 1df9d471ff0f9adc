"""What is filled from the outputs and can be filled again at any time: the SQL index and the experiment tracker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psr.types import short_hash
from tasks.engine.files import parse_yaml, read_json, write_json
from tasks.engine.pipeline import code_version
from tasks.engine.progress import say
from tasks.engine.repair import LOCKS


def index(root: Path, profile: str) -> None:
    """Rebuild data/results.duckdb if it is missing or was built from other outputs of the profile."""
    from tasks.shown.index import database, rebuild

    done = root / ".psr" / "indexed" / f"{profile}.json"
    if not database(root).exists() or read_json(done) != outputs(root, profile):
        rebuild(root)
        write_json(done, outputs(root, profile))


def track(root: Path, profile: str) -> None:
    """Fill the tracker with the profile's outputs, unless it holds them. If it fails: a warning, the results stand."""
    done = root / ".psr" / "tracked" / f"{profile}.json"
    state = {**outputs(root, profile), "tracker": os.environ.get("MLFLOW_TRACKING_URI", "")}
    if read_json(done) == state:
        return
    try:
        from tasks.shown.track import run

        run(root, profile)
        write_json(done, state)
    except Exception as error:  # whatever a tracker raises
        message = " ".join(str(error).split())[:300]
        say(
            f"warning: the tracker was not filled ({type(error).__name__}: {message}). Results are complete; run again to retry."
        )


def outputs(root: Path, profile: str) -> dict[str, str]:
    """step -> a hash of the outputs that dvc.lock records for it."""
    return {name: short_hash("outputs", entry.get("outs")) for name, entry in recorded(root, profile).items()}


def versions(root: Path, profile: str) -> dict[str, str]:
    """step -> the version of the code that it ran on, as dvc.lock records it."""
    return {
        name: code_version({dep["path"]: dep.get("md5", "") for dep in entry.get("deps", ())})
        for name, entry in recorded(root, profile).items()
    }


def recorded(root: Path, profile: str) -> Mapping[str, Any]:
    """step -> its entry in dvc.lock, without the profile in its name."""
    found: dict[str, Any] = {}
    for lock in (root / name for name in LOCKS if (root / name).exists()):
        stages = (parse_yaml(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        found |= {name.partition("@")[0]: entry for name, entry in stages.items() if name.endswith(f"@{profile}")}
    return found
