"""MLflow as a store of cells: a run is looked up by its cell before one is made, so that filling it again adds no twin.

A cell is anything with a key; what is written to it is tagged with its hash, and equal content is not written again.
"""

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from psr.errors import PsrError
from psr.types import short_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "psr"
CELL = "psr.cell"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a dead server is told in seconds, not in minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
PREDICT = {
    "alpha": ("double", 1.0),
    "seed": ("long", 0),
    "max_new_tokens": ("long", 64),
    "temperature": ("double", 1.0),
}
"""What `predict` takes as params: types and defaults."""
PYFUNC = Path(__file__).with_name("pyfunc_psr.py")


@dataclass(frozen=True)
class Store:
    """An open tracker: its client, the experiment, and the runs found there by cell."""

    client: "MlflowClient"
    experiment: str
    runs: dict[str, "Run"]


@contextmanager
def opened(uri: str, artifacts: Path | None, profile: str) -> Iterator[Store]:
    """The tracker at `uri`, with the runs of `profile`. `artifacts`: where files go, when the store is a local one.

    Raises PsrError for whatever a tracker raises.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        place = None if artifacts is None else artifacts.resolve().as_uri()
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=place)
        yield Store(client, experiment, _runs(client, experiment, profile))
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        parts = urlsplit(uri)  # shown without a user name and password
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri
        first = (str(error).splitlines() or [""])[0].replace(uri, shown)
        raise PsrError(
            "the tracker could not be filled",
            where=shown,
            got=f"{type(error).__name__}: {first}",
            do="Results are complete without it: check MLFLOW_TRACKING_URI and run again.",
        ) from error


def _runs(client: "MlflowClient", experiment: str, profile: str) -> dict[str, "Run"]:
    """Every run of the profile by its cell; of twins, which an older tracker may hold, the first one made."""
    runs: dict[str, Run] = {}
    token: str | None = None
    while token != "":
        wanted = f"tags.`psr.profile` = '{profile}'"
        page = client.search_runs([experiment], wanted, 1, 1000, ["attributes.start_time ASC"], token)
        for run in page:
            runs.setdefault(run.data.tags[CELL], run)
        token = page.token or ""
    return runs


def fill(
    store: Store,
    cell: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    series: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Make or update the run of `cell`; returns its id. series: metric name -> (step, value).

    Parameters that the run has already are left alone (MLflow never changes one); metrics are written when any differs
    from what was written last.
    """
    from mlflow.entities import Metric, Param, RunTag

    run = store.runs.get(cell)
    if run is None:
        run = store.client.create_run(store.experiment, run_name=name, tags={CELL: cell, **tags})
    key, known, now = run.info.run_id, run.data.tags, int(time.time() * 1000)
    written = short_hash(series)
    metrics = [Metric(metric, value, now, step) for metric, points in series.items() for step, value in points]
    if known.get("psr.metrics") != written:
        for at in range(0, len(metrics), 1000):  # MLflow takes no more in a call
            store.client.log_batch(key, metrics[at : at + 1000])
    changed = {tag: value for tag, value in {**tags, "psr.metrics": written}.items() if known.get(tag) != value}
    new = [Param(param, str(value)) for param, value in params.items() if param not in run.data.params]
    if new or changed:  # the hash is written after what it stands for
        store.client.log_batch(key, params=new, tags=[RunTag(tag, value) for tag, value in changed.items()])
    if run.info.status != "FINISHED":
        store.client.set_terminated(key)
    return str(key)


def versions(store: Store, name: str) -> dict[tuple[str, str], str]:
    """(cell, hash of the files) -> version, of the registered model `name`, which is made if there is none."""
    if not store.client.search_registered_models(f"name = '{name}'"):
        store.client.create_registered_model(name)
    found = store.client.search_model_versions(f"name = '{name}'", max_results=1000)
    return {(v.tags.get(CELL, ""), v.tags.get("psr.files", "")): str(v.version) for v in found}


def register(store: Store, name: str, run_id: str, cell: str, folder: Path, files: str, config: dict[str, Any]) -> str:
    """Log the module in `folder` as a pyfunc under its run, and register it; returns the version.

    The MLflow model is the module's files, and pyfunc_psr.py as its code; nothing is pickled.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    params = ParamSchema([ParamSpec(param, kind, default) for param, (kind, default) in PREDICT.items()])
    with tempfile.TemporaryDirectory() as spare, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints, and asks for an example of chats
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            f"{spare}/model",
            python_model=str(PYFUNC),
            artifacts={"module": str(folder)},
            model_config=config,
            signature=ModelSignature(params=params),
            pip_requirements=[],  # else it looks through every installed package
        )
        store.client.log_artifacts(run_id, f"{spare}/model", "model")
    tags = {CELL: cell, "psr.files": files}
    return str(store.client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=tags).version)


def point(store: Store, name: str, alias: str, version: str) -> None:
    """Let `alias` of the registered model mean `version`."""
    if store.client.get_registered_model(name).aliases.get(alias) != version:
        store.client.set_registered_model_alias(name, alias, version)
