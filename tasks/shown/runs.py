"""The records of runs as rows of the index: a row a run, and a row a run and step that says whether it made what lies there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.engine.history import Run, makers, runs

Row = dict[str, Any]


def write_runs(root: Path | None, folder: Path) -> dict[str, list[Path]]:
    """The variables of staging.sql that hold these tables, written to `folder` a row a line; without a root they are empty.

    Raises PsrError for a damaged record."""
    records = runs(root) if root else ()
    made = {profile: makers(root, profile) for profile in {run.profile for run in records}} if root else {}
    steps = (row for run in records for row in step_rows(run, made[run.profile]))
    return {
        "runs": _write(folder / "runs.json", map(run_row, records)),
        "runs_steps": _write(folder / "steps.json", steps),
    }


def run_row(run: Run) -> Row:
    """The record without its steps; the settings as JSON."""
    row = run.model_dump(exclude={"steps", "settings"})
    times = {name: f"{row[name]:%Y-%m-%d %H:%M:%S}" for name in ("began", "ended")}
    return {**row, **times, "dirty": run.dirty, "settings": json.dumps(run.settings, ensure_ascii=False)}


def step_rows(run: Run, made: dict[str, Run]) -> Iterator[Row]:
    """made: step -> the run that made its outputs as dvc.lock has them."""
    for name, step in run.steps.items():
        row = {"profile": run.profile, "run": run.id, "step": name, "seconds": step.seconds, "outputs": step.outputs}
        yield {**row, "outcome": step.end, "made": made.get(name) == run}


def _write(path: Path, rows: Iterable[Row]) -> list[Path]:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return [path]
