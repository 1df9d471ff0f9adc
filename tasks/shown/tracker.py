"""MLflow as a store of records that are written once: one is looked up by its cell before it is made, and stays as it is.

A cell is a hash of what a record says, so that other results are another record, whoever fills the tracker.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from psr.errors import PsrError

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
METRICS, PARAMS = 800, 100  # that one call takes: MLflow allows 1000 entries, 100 of them params
Series = Mapping[str, Sequence[tuple[int, float]]]  # metric -> (step, value)


@dataclass(frozen=True)
class Store:
    """An open tracker: its client and the experiment."""

    client: "MlflowClient"
    experiment: str


@dataclass(frozen=True)
class Record:
    """What a run says. datasets: (name, digest, path). span: when the work began and ended, in seconds since 1970."""

    cell: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    series: Series
    datasets: Sequence[tuple[str, str, str]]
    span: tuple[float, float]


@contextmanager
def opened(uri: str, artifacts: Path | None) -> Iterator[Store]:
    """The tracker at `uri`. artifacts: where files go, when the store is a local one.

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
        yield Store(client, _experiment(client, None if artifacts is None else artifacts.resolve().as_uri()))
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


def _experiment(client: "MlflowClient", artifacts: str | None) -> str:
    """The experiment's id; it is made if there is none, perhaps by another process at this moment."""
    from mlflow.exceptions import MlflowException

    if existing := client.get_experiment_by_name(EXPERIMENT):
        return str(existing.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))
    except MlflowException:
        if existing := client.get_experiment_by_name(EXPERIMENT):
            return str(existing.experiment_id)
        raise


def runs(store: Store, tags: Mapping[str, str]) -> dict[str, "Run"]:
    """cell -> run, of all with these tags; of twins, which two that fill one server at once may make, the first."""
    cells: dict[str, Run] = {}
    oldest = ["attributes.start_time ASC"]
    for run in pages(store.client.search_runs, [store.experiment], tagged(tags), order_by=oldest):
        cells.setdefault(run.data.tags.get(CELL, ""), run)
    return cells


def begin(store: Store, record: Record, existing: "Run | None", tags: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write the record into a run that goes on until `end`; returns its id. existing: one that was cut off."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    run = existing or store.client.create_run(
        store.experiment,
        start_time=int(record.span[0] * 1000),
        tags={CELL: record.cell, **record.tags, **tags},
        run_name=record.name,
    )
    key, at = str(run.info.run_id), int(run.info.start_time)  # MLflow stores an equal value of equal time once
    metrics = [Metric(name, value, at, step) for name, points in record.series.items() for step, value in points]
    params = [Param(name, str(value)) for name, value in record.params.items()]
    while metrics or params:
        store.client.log_batch(key, metrics=metrics[:METRICS], params=params[:PARAMS])
        metrics, params = metrics[METRICS:], params[PARAMS:]
    if record.datasets:
        data = [Dataset(name, digest, "local", json.dumps({"uri": path})) for name, digest, path in record.datasets]
        store.client.log_inputs(key, [DatasetInput(one, []) for one in data])
    return key


def end(store: Store, run_id: str, record: Record) -> None:
    """Say that the run is complete."""
    store.client.set_terminated(run_id, end_time=int(record.span[1] * 1000))


def complete(run: "Run") -> bool:
    """Whether all of its record was written."""
    return bool(run.info.status == "FINISHED")


def tagged(tags: Mapping[str, str]) -> str:
    """The filter of a search for all of these tags."""
    return " AND ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())


def pages(search: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """All that a search of MLflow's finds, a thousand at a time."""
    token: str | None = None
    while token != "":
        page = search(*args, **kwargs, max_results=1000, page_token=token)
        yield from page
        token = page.token or ""
