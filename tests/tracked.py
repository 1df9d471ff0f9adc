"""What a tracker says of a profile, and the small profile of tests.results_folder in other settings, for tests that fill one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.shown import track
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SETTINGS: dict[str, Any] = {
    "model": {"path": "here", "dtype": "float32", "template": {}},
    "benchmarks": [{"name": "persona", "path": "data/testbed/persona", "attributes": ["gloomy", "pirate"]}],
    "distill": {"epochs": 3, "lr": None},
    "search": {"questions": 4, "batch_size": 8},
    "inputs": {"model": "a" * 32 + ".dir", "benchmarks": {"persona": "b" * 32 + ".dir"}},
}


def git(folder: Path, *command: str) -> str:
    """What git answers in `folder`."""
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write_settings(repo: Path, profile: str, **sections: object) -> None:
    """Write SETTINGS, but these sections, as those that the profile's outputs were made with."""
    (repo / "data" / profile / "settings.yaml").write_text(yaml.safe_dump({**SETTINGS, **sections}))


def set_figure(data: Path, attribute: str, slug: str, value: float | None) -> None:
    """Change the main figure of a module."""
    path = data / "results/figures_seeds.parquet"
    rows = tables.read_table(path, "figures_seeds")
    for row in rows:
        if (row["attribute"], row["method"], row["figure"]) == (attribute, slug, "ta_cp"):
            row["value"] = value
    tables.write_table(path, "figures_seeds", rows)


def runs(client: MlflowClient, profile: str, kind: str = "module") -> list[Run]:
    """All runs of the profile, twins too, in the order in which they were made."""
    experiment = client.get_experiment_by_name("psr")
    wanted = f"tags.`psr.profile` = '{profile}' AND tags.`psr.kind` = '{kind}'"
    order = ["attributes.start_time ASC"]
    return list(client.search_runs([experiment.experiment_id], wanted, order_by=order)) if experiment else []


def history(client: MlflowClient, run: Run, metric: str) -> list[tuple[int, float]]:
    """(step, value) of all that was ever logged."""
    points = client.get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)


def dumped(client: MlflowClient, profile: str) -> dict[str, dict[str, object]]:
    """All that the tracker says: runs by their ids with every value of every metric, and models with their versions and aliases."""
    both = [*runs(client, profile), *runs(client, profile, "reproduction")]
    said: dict[str, object] = {
        run.info.run_id: (run.to_dictionary(), [history(client, run, name) for name in sorted(run.data.metrics)])
        for run in both
    }
    models: dict[str, object] = {}
    for attribute in ATTRIBUTES:
        name = track.model_name(profile, attribute)
        versions = client.search_model_versions(f"name = '{name}'")
        aliases = dict(client.get_registered_model(name).aliases)
        models[name] = (sorted((int(one.version), one.run_id, one.description) for one in versions), aliases)
    return {"runs": said, "models": models}
