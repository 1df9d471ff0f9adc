"""What is filled from the outputs and can be filled again at any time: the SQL index and the experiment tracker."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.types import short_hash
from tasks.files import read_json, write_json


def publish(root: Path, profile: str) -> None:
    """Both, without Prefect: for a clone that pulled its outputs and has nothing to run."""
    index.fn(root)
    track.fn(root, profile)


@task(cache_policy=NO_CACHE, persist_result=False)
def index(root: Path) -> None:
    """Rebuild data/results.duckdb if it is missing or older than dvc.lock."""
    from tasks.index import database, rebuild

    if not database(root).exists() or database(root).stat().st_mtime < (root / "dvc.lock").stat().st_mtime:
        rebuild(root)


@task(cache_policy=NO_CACHE, persist_result=False)
def track(root: Path, profile: str) -> None:
    """Fill the tracker with this profile's outputs, unless it holds them already. A tracker that fails warns, no more."""
    done, state = root / ".psr" / "tracked" / f"{profile}.json", _state(root, profile)
    if read_json(done) == state:
        return
    try:
        from tasks.track import run

        run(root, profile)
        write_json(done, state)
    except Exception as error:  # whatever a tracker raises, the results stand without it
        print(f"warning: the tracker was not filled ({type(error).__name__}: {' '.join(str(error).split())[:300]}). "
              "Results are complete; run again to retry.", flush=True)


def _state(root: Path, profile: str) -> str:
    """A hash of what dvc.lock says of this profile, and of where the tracker is."""
    stages = (yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8")) or {}).get("stages", {})
    ours = {name: stage.get("outs") for name, stage in stages.items() if name.endswith(f"@{profile}")}
    return short_hash("tracked", ours, os.environ.get("MLFLOW_TRACKING_URI", ""))
