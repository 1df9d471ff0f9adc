"""What is filled from the outputs and can be filled again at any time: the SQL index and the experiment tracker."""

from __future__ import annotations

import os
from pathlib import Path

from psr.types import short_hash
from tasks.engine.files import read_json, write_json
from tasks.engine.history import runs
from tasks.engine.lockfiles import code_of, outputs, studies
from tasks.engine.progress import say


def index(root: Path, profile: str) -> None:
    """Rebuild data/results.duckdb if it is missing or was built from other outputs, studies or records of runs."""
    from tasks.shown.index import database, rebuild

    done = root / ".psr" / "indexed" / f"{profile}.json"
    records = short_hash([run.model_dump(mode="json") for run in runs(root)])
    state = {**_state(root, profile), **studies(root, profile), "runs": records}
    if not database(root).exists() or read_json(done) != state:
        rebuild(root)
        write_json(done, state)


def track(root: Path, profile: str) -> None:
    """Fill the tracker with the profile's outputs, unless it holds them. If it fails: a warning, the results stand."""
    done = root / ".psr" / "tracked" / f"{profile}.json"
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    state = {**_state(root, profile), "tracker": server}
    if read_json(done) == state and (server or (root / ".psr" / "mlflow.db").exists()):
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


def _state(root: Path, profile: str) -> dict[str, str]:
    """What both are made from: the outputs, and the code and SQL that fill them."""
    return {**outputs(root, profile), "filled by": code_of(root, "tasks/shown", "tasks/studies/claims")}
