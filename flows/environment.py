"""What every process of a run finds in its environment, set in one place: telemetry off, no network, own folders.

A variable that is already set is left alone, so each default can be overruled from outside.
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
    # OpenMP's threads wait by spinning: two processes on one machine would get a fortieth of their share each. So few
    # rounds keep nearly the speed of one alone (docs/results.md; python -m flows.bench --only company).
    "GOMP_SPINCOUNT": "1000",
    # Steps print their own lines, which Prefect keeps: its console would say everything twice.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # A run's server serves this run only; these services look after deployments and other people's runs.
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
}


def repository() -> Path:
    """The repository this file belongs to, wherever it was started from."""
    return Path(__file__).resolve().parents[1]


def set_defaults(root: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is not set yet, for this process and its children; `python` is the interpreter that runs now."""
    for name, value in {**DEFAULTS, "PREFECT_HOME": str(root / ".psr" / "prefect")}.items():
        environment.setdefault(name, value)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # Prefect's; it tells of every slow machine
    interpreter = str(Path(sys.executable).parent)
    paths = environment.get("PATH", os.defpath).split(os.pathsep)
    if paths[0] != interpreter:
        environment["PATH"] = os.pathsep.join([interpreter, *paths])
