"""The environment variables of a run's processes: telemetry off, no network, folders in the repository.

A variable that is already set is kept, so each default can be overridden.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    # OpenMP's threads wait by spinning, which slows two processes on one machine to a fortieth each. With few rounds
    # they keep nearly the speed of one alone (docs/results.md; python -m flows.bench --only company).
    "GOMP_SPINCOUNT": "1000",
    # Steps print their own lines: Prefect's console log would repeat them.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # A run's server serves this run only; these services handle deployments and other runs.
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
}


def repository() -> Path:
    """The repository that contains this file."""
    return Path(__file__).resolve().parents[1]


def set_defaults(root: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the defaults that are not set yet, and put the running interpreter first on PATH, for child processes too."""
    for name, value in {**DEFAULTS, "PREFECT_HOME": str(root / ".psr" / "prefect")}.items():
        environment.setdefault(name, value)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # Prefect's; it warns on every slow machine
    # without a server, a screenful for every event
    logging.getLogger("prefect._internal.concurrency").setLevel(logging.CRITICAL)
    interpreter = str(Path(sys.executable).parent)
    paths = environment.get("PATH", os.defpath).split(os.pathsep)
    if paths[0] != interpreter:
        environment["PATH"] = os.pathsep.join([interpreter, *paths])
