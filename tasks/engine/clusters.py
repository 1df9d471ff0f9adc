"""Worker processes of Dask or Ray: those of a running cluster, or new ones on this machine that end with the run.

Workers never speak with the Prefect server, which listens on this machine alone: the run shows their cells on it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from psr.errors import PsrError
from tasks.engine.lockfiles import CODE
from tasks.engine.progress import say
from tasks.engine.runners import Conditions, Workers, received

LOOPBACK = "127.0.0.1"
PATIENCE = 5.0  # seconds that a cluster has to answer
LOST = 3  # lost workers after which a cell is given up: Dask's own number
PACKAGES = {"dask": "distributed", "ray": "ray"}


@dataclass(frozen=True)
class Chosen:
    """The workers that a user asks for. kind: dask or ray; address: of a running cluster, None for new workers on this
    machine; count: of those, None for as many as its cores or GPUs allow."""

    kind: str
    address: str | None = None
    count: int | None = None


@dataclass(frozen=True)
class Cluster:
    """What each worker needs: threads, those of the model, and a GPU or none. count: of new workers. See `Chosen`."""

    address: str | None
    count: int
    threads: int
    gpu: bool


def check_installed(kind: str) -> None:
    """Raise PsrError where the package that a runner needs is not installed."""
    if find_spec(PACKAGES[kind]) is None:
        raise PsrError(
            f"the runner {kind} needs the package {PACKAGES[kind]}",
            do=f"pip install -e '.[pipeline,{kind}]' -c constraints.txt",
        )


@contextmanager
def started(chosen: Chosen, wanted: Conditions, *, threads: int, gpu: bool) -> Iterator[Workers]:
    """The workers. threads: of the model in each; gpu: whether each needs one. Raises PsrError where an address does not answer
    within seconds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = max(1, len(gpus_here()) if gpu else cores // threads)
    count = chosen.count or fitting
    if chosen.address is None:
        if count > fitting and not gpu:
            say(
                f"warning: {count} workers of {threads} threads share {cores} cores (--set model.threads=1 changes results)"
            )
        say(f"{count} worker{'s' * (count > 1)} of {chosen.kind} on this machine")
    else:
        _check_answers(chosen.address, "dask scheduler" if chosen.kind == "dask" else "ray start --head")
    with {"dask": _dask, "ray": _ray}[chosen.kind](Cluster(chosen.address, count, threads, gpu), wanted) as workers:
        yield workers


def gpu_of(worker: int, gpus: Sequence[str]) -> str:
    """CUDA_VISIBLE_DEVICES of the worker of this number on its machine: one GPU each, in turn."""
    return gpus[worker % len(gpus)]


def gpus_here() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(torch.cuda.device_count())))


@dataclass(frozen=True)
class Computed:
    """A cell under way, and the errors of a cluster as PsrError."""

    wait: Callable[[], Any]
    cancel: Callable[[], object]
    where: str

    def result(self) -> tuple[Any, list[str]]:
        """See tasks.engine.runners.Pending."""
        try:
            value: tuple[Any, list[str]] = self.wait()
            return value
        except (Exception, CancelledError) as error:
            cause = getattr(error, "cause", None)  # Ray's errors hold the cell's own
            if isinstance(cause, Exception) and type(error).__module__.startswith("ray"):
                raise (_clear(cause, self.where) or cause) from None
            if problem := _clear(error, self.where):
                raise problem from error
            raise


def _clear(error: BaseException, where: str) -> PsrError | None:
    """A PsrError for a worker or a cluster that is lost, or for a worker without this project's code; None for the cell's own."""
    name, package = type(error).__name__, type(error).__module__.partition(".")[0]
    if name in ("KilledWorker", "WorkerCrashedError", "OutOfMemoryError") and package in ("distributed", "ray"):
        return PsrError(
            f"a cell's worker died {LOST + 1} times",
            where=where,
            do="Look at its log, and whether the memory suffices, then run again: what was finished is kept.",
        )
    if isinstance(error, CancelledError) or package in ("distributed", "ray"):
        return PsrError(
            "the cluster does not answer any more",
            where=where,
            got=f"{name}: {error}",
            do="Start it, and run again: what was finished is kept.",
        )
    lost = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if lost and lost.partition(".")[0] in CODE:
        return PsrError(
            "a worker cannot import this project",
            where=where,
            got=str(error),
            do="Start the workers in the repository's folder, in the environment of the run.",
        )
    return None


@contextmanager
def _dask(cluster: Cluster, wanted: Conditions) -> Iterator[Workers]:
    from distributed import Client

    where = cluster.address or "on this machine"
    with ExitStack() as opened:
        if cluster.address is None:
            client = opened.enter_context(Client(opened.enter_context(_dask_here(cluster)), set_as_default=False))
        else:
            client = opened.enter_context(Client(cluster.address, timeout=PATIENCE, set_as_default=False))
            if not client.scheduler_info()["workers"]:
                say(f"no worker at {where} yet: cells wait for one")

        def submit(cell: bytes) -> Computed:
            future = client.submit(received, wanted, cell, pure=False)
            return Computed(future.result, future.cancel, where)

        yield Workers(submit)


def _dask_here(cluster: Cluster) -> Any:
    """A scheduler in this process, and worker processes that it starts again when they die; others on this machine have no
    access: connections need a certificate that lives in this process."""
    from distributed import Nanny, Scheduler, Security, SpecCluster

    security, gpus = Security.temporary(), gpus_here() if cluster.gpu else ()
    common = {
        "host": LOOPBACK, "protocol": "tls://", "security": security, "dashboard": False, "dashboard_address": f"{LOOPBACK}:0"
    }  # fmt: skip
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                **common, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.ERROR,
                "preload": [__name__],
                "env": {"CUDA_VISIBLE_DEVICES": gpu_of(number, gpus)} if gpus else {},
            },
        }
        for number in range(cluster.count)
    }  # fmt: skip
    scheduler = {"cls": Scheduler, "options": {**common, "allowed_failures": LOST}}
    return SpecCluster(workers, scheduler, security=security, silence_logs=logging.ERROR)


def dask_setup(_worker: object) -> None:
    """Called by Dask in each worker that `_dask_here` starts: Ctrl-C is for the run, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _ray(cluster: Cluster, wanted: Conditions) -> Iterator[Workers]:
    import ray

    where = cluster.address or "on this machine"
    new: dict[str, Any] = {
        "num_cpus": cluster.count * cluster.threads,
        "include_dashboard": False,
        "object_store_memory": 10**8,
    }
    ray.init(
        address=cluster.address or "local", logging_level=logging.ERROR, log_to_driver=False,
        **({} if cluster.address else new),
    )  # fmt: skip
    compute = ray.remote(received).options(num_cpus=cluster.threads, num_gpus=int(cluster.gpu), max_retries=LOST)

    def submit(cell: bytes) -> Computed:
        reference = compute.remote(wanted, cell)
        return Computed(lambda: ray.get(reference), lambda: ray.cancel(reference), where)

    try:
        yield Workers(submit)
    finally:
        ray.shutdown()


def _check_answers(address: str, command: str) -> None:
    """Raise PsrError where nothing listens at `address`: the clients of Dask and Ray would try for long."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, ValueError) as error:
        raise PsrError(
            "the cluster does not answer",
            where=address,
            expected="HOST:PORT, and a scheduler there",
            got=str(error),
            do=f"Start it by `{command}`, or leave --cluster out for workers on this machine.",
        ) from error
