"""What is filled from the outputs and can be filled again at any time: the SQL index and the experiment tracker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.types import short_hash
from tasks.engine.files import parse_yaml, read_json, write_json
from tasks.engine.planning import Step


def sources(steps: Sequence[Step]) -> tuple[str, ...]:
    """The steps whose outputs are data for later ones. What nobody needs, the report, is a page and fills nothing."""
    return tuple(step.name for step in steps if any(step.name in other.needs for other in steps)) or tuple(
        step.name for step in steps
    )


def publish(root: Path, profile: str, steps: Sequence[Step]) -> None:
    """Both, without Prefect: for a clone that pulled its outputs and has nothing to run."""
    index.fn(root, sources(steps))
    track.fn(root, profile, sources(steps))


@task(cache_policy=NO_CACHE, persist_result=False)
def index(root: Path, names: Sequence[str]) -> None:
    """Rebuild data/results.duckdb if it is missing or was built from other outputs of the stages called `names`."""
    from tasks.shown.index import database, rebuild

    done, state = root / ".psr" / "indexed.json", outputs_state(root, names)
    known = read_json(done) or {}
    if not database(root).exists() or any(known.get(name) != value for name, value in state.items()):
        rebuild(root)
        write_json(done, {**known, **state})


@task(cache_policy=NO_CACHE, persist_result=False)
def open_tracker(root: Path, profile: str) -> None:
    """Import the tracker and make its database beside the first stages: both take seconds. What fails is told by `track`."""
    with suppress(Exception):
        from tasks.shown.track import prepare

        prepare(root, profile)


@task(cache_policy=NO_CACHE, persist_result=False)
def track(root: Path, profile: str, names: Sequence[str]) -> None:
    """Fill the tracker with the outputs of the stages called `names`, unless it holds them. If it fails: a warning."""
    done, state = root / ".psr" / "tracked" / f"{profile}.json", outputs_state(root, names)
    state["tracker"] = os.environ.get("MLFLOW_TRACKING_URI", "")
    if read_json(done) == state:
        return
    try:
        from tasks.shown.track import run

        run(root, profile)
        write_json(done, state)
    except Exception as error:  # whatever a tracker raises, the results stand without it
        print(
            f"warning: the tracker was not filled ({type(error).__name__}: {' '.join(str(error).split())[:300]}). "
            "Results are complete; run again to retry.",
            flush=True,
        )


def outputs_state(root: Path, names: Sequence[str]) -> dict[str, str]:
    """stage -> a hash of the outputs that dvc.lock records for it."""
    lock = root / "dvc.lock"
    stages = (parse_yaml(lock.read_text(encoding="utf-8")) if lock.exists() else None) or {}
    return {name: short_hash("outputs", stages.get("stages", {}).get(name, {}).get("outs")) for name in names}
