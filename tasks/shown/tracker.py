"""MLflow as a store of cells: a run is looked up by its cell before one is made, so that filling it again adds no twin.

A cell is anything with a key; what is written to it is tagged with its hash, and equal content is not written again.
"""

import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
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
PREDICT: dict[str, int | float] = {"alpha": 1.0, "seed": 0, "max_new_tokens": 64, "temperature": 1.0}
"""What `predict` takes as params, with its defaults."""
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
        found = client.get_experiment_by_name(EXPERIMENT)
        place = None if artifacts is None else artifacts.resolve().as_uri()
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=place)
        runs = _runs(client, experiment, profile)
        yield Store(client, experiment, runs)
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        first = (str(error).splitlines() or [""])[0].replace(uri, without_secret(uri))
        raise PsrError(
            "the tracker could not be filled",
            where=without_secret(uri),
            got=f"{type(error).__name__}: {first}",
            do="Results are complete without it: check MLFLOW_TRACKING_URI and run again.",
        ) from error


def without_secret(uri: str) -> str:
    """`uri` without a user name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def _runs(client: "MlflowClient", experiment: str, profile: str) -> dict[str, "Run"]:
    """Every run of the profile by its cell; of twins, which an older tracker may hold, the first one made."""
    found: dict[str, Run] = {}
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [experiment],
            f"tags.`psr.profile` = '{profile}'",
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            found.setdefault(run.data.tags[CELL], run)
        token = page.token or ""
    return found


def fill(
    store: Store,
    cell: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    series: Mapping[str, Iterable[tuple[int, float]]],
) -> str:
    """Make or update the run of `cell`; returns its id. series: metric name -> (step, value).

    Parameters that the run has already are left alone (MLflow never changes one); metrics are written when any differs
    from what was written last.
    """
    from mlflow.entities import Metric, Param, RunTag

    run = store.runs.get(cell)
    if run is None:
        run = store.client.create_run(store.experiment, run_name=name, tags={CELL: cell, **tags})
    series = {metric: list(points) for metric, points in series.items()}
    written = short_hash(series)
    now = int(time.time() * 1000)
    fresh = run.data.tags.get("psr.metrics") != written
    metrics = [Metric(m, value, now, step) for m, points in series.items() for step, value in points] if fresh else []
    new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
    changed = {key: value for key, value in {**tags, "psr.metrics": written}.items() if run.data.tags.get(key) != value}
    for at in range(0, max(1, len(metrics)), 900):  # MLflow takes 1,000 values a call
        here = metrics[at : at + 900]
        if here or new or changed:
            last = at + 900 >= len(metrics)
            store.client.log_batch(
                run.info.run_id, here, new if last else [], [RunTag(k, v) for k, v in changed.items()] if last else []
            )
    if run.info.status != "FINISHED":
        store.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def versions(store: Store, name: str) -> dict[tuple[str, str], str]:
    """(cell, hash of the files) -> version, of the registered model `name`, which is made if there is none."""
    if not store.client.search_registered_models(f"name = '{name}'"):
        store.client.create_registered_model(name)
    found = store.client.search_model_versions(f"name = '{name}'", max_results=1000)
    return {(v.tags.get(CELL, ""), v.tags.get("psr.files", "")): str(v.version) for v in found}


def register(store: Store, name: str, run_id: str, cell: str, folder: Path, files: str, config: dict[str, Any]) -> str:
    """Log the module in `folder` as a pyfunc under its run, and register it; returns the version."""
    with tempfile.TemporaryDirectory() as spare:
        save_pyfunc(Path(spare), folder, config)
        store.client.log_artifacts(run_id, spare, "model")
    version = store.client.create_model_version(
        name, f"runs:/{run_id}/model", run_id, tags={CELL: cell, "psr.files": files}
    )
    return str(version.version)


def save_pyfunc(path: Path, folder: Path, config: dict[str, Any]) -> None:
    """Write an MLflow model into `path`: the module's files, and pyfunc_psr.py as its code; nothing is pickled.

    What `mlflow.pyfunc.save_model` writes, without its look through every installed package for requirements.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when imported
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    shutil.copytree(folder, path / "artifacts" / "module")
    shutil.copy(PYFUNC, path)
    kinds = {float: "double", int: "long"}
    params = ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in PREDICT.items()])
    model = Model(signature=ModelSignature(params=params))
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=PYFUNC.name,
        model_config=config,
        artifacts={"module": {"path": "artifacts/module", "uri": "artifacts/module"}},
    )
    model.save(str(path / "MLmodel"))


def point(store: Store, name: str, alias: str, version: str) -> None:
    """Let `alias` of the registered model mean `version`."""
    if store.client.get_registered_model(name).aliases.get(alias) != version:
        store.client.set_registered_model_alias(name, alias, version)
