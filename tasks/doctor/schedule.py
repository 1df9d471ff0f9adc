"""The check that a schedule creates a run: on a temporary Prefect server in a temporary folder.

Prefect's scheduler is a loop inside the server. Where it fails, as with SQLAlchemy 2.1 under Prefect 3.8, the server
answers and shows the schedule, but never creates a run; only its log says why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psr.errors import PsrError
from tasks.engine.server import PATIENCE, start

LIMIT = 60.0  # seconds for the first run; the scheduler looks once a second
ENOUGH = 5  # failures after which waiting is useless
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    # A second loop handles deployments that were just changed. The nightly run depends on the first.
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "3600",
}
RAISED = re.compile(r"^[\w.]+(?:Error|Exception)\b.*", re.MULTILINE)  # the last line of a traceback
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's loopback


@dataclass(frozen=True)
class Server:
    """A running server process, the URL of its API, and its log."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def answer(self, path: str, body: dict[str, Any], limit: float = 30.0) -> Any:
        """The answer to a POST, retried for `limit` seconds while the server starts or is busy, then PsrError."""
        headers, data = {"Content-Type": "application/json"}, json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)  # noqa: S310
        end = time.monotonic() + limit
        while True:
            try:
                with LOCAL.open(request, timeout=10) as reply:
                    return json.load(reply)
            except OSError as error:
                if time.monotonic() > end or self.process.poll() is not None:
                    got = self.last_words() or error
                    raise PsrError("the Prefect server does not answer", where=path, got=got) from error
            time.sleep(0.2)

    def raised(self) -> list[str]:
        """The exceptions' messages, in the order of the log."""
        return RAISED.findall(self.log.read_text(encoding="utf-8", errors="replace"))

    def last_words(self) -> str:
        """The last exception's message, or the last line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return (self.raised() or lines or [""])[-1]


def schedules(root: Path) -> tuple[bool, str]:
    """Whether the scheduler creates a run, and after how long, or the error that it raises.

    The server uses none of the user's settings, profiles or databases, and is killed at the end.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join([str(root), *filter(None, [environment.get("PYTHONPATH")])])
    with TemporaryDirectory(prefix="psr-doctor-", ignore_cleanup_errors=True) as home:
        log = Path(home, "server.log")
        with start(Path(home), log, {**environment, **SETTINGS, "PREFECT_HOME": home, "PYTHONPATH": path}) as process:
            try:
                server = Server(process, process.stdout.readline().strip() if process.stdout else "", log)
                if not server.url:
                    raise PsrError("the Prefect server did not start", got=server.last_words() or "no message")
                return _scheduled(server)
            except PsrError as error:
                return False, str(error)
            finally:
                process.kill()


def _scheduled(server: Server) -> tuple[bool, str]:
    """Create a deployment with a schedule and wait for a run, which only the scheduler can create."""
    flow = server.answer("flows/", {"name": "doctor"}, PATIENCE)
    nightly = {"active": True, "schedule": {"cron": "0 3 * * *"}}
    deployment = server.answer("deployments/", {"name": "nightly", "flow_id": flow["id"], "schedules": [nightly]})
    began, before = time.monotonic(), len(server.raised())
    runs_of_deployment = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}}
    while time.monotonic() - began < LIMIT and len(server.raised()) < before + ENOUGH:
        if server.answer("flow_runs/filter", runs_of_deployment):
            return True, f"a run was created after {time.monotonic() - began:.1f} s"
        time.sleep(0.2)
    why = server.last_words() or f"none in {time.monotonic() - began:.0f} s, and the server's log is empty"
    return False, f"no run is created: {why}"
