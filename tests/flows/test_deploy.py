"""The deployment ships inactive, and runs the whole flow when it is asked to."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from repository import GRAPH, ITEMS, build, environment, family, journal, started, until

from tasks.engine.server import answers

ROOT = Path(__file__).resolve().parents[2]


def test_its_schedule_is_off_and_its_parameters_are_plain_values():
    code = (
        "import json; from flows.deploy import deployment; d = deployment(); s = d.schedules; "
        "print(json.dumps([d.name, len(s), s[0].active, s[0].schedule.cron, d.parameters, d.entrypoint]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    name, count, active, cron, parameters, entrypoint = json.loads(done.stdout)
    assert (name, count, active, cron) == ("nightly", 1, False, "0 3 * * *")
    assert parameters == {"profile": "quick"}
    assert entrypoint == "flows/pipeline.py:reproduce"


def test_without_a_server_it_says_what_it_needs():
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no Prefect server is named (PREFECT_API_URL)" in done.stderr


def ask(url: str, path: str, body: dict) -> dict | list:
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


@pytest.mark.slow
def test_a_server_shows_it_inactive_and_a_run_by_hand_reproduces(tmp_path):
    folder = build(tmp_path / "repository")
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    with started(folder, module="tasks.engine.server", **home) as server:
        url = server.stdout.readline().strip()
        until(lambda: answers(url), 300)
        home["PREFECT_API_URL"] = url
        with started(folder, module="flows.deploy", **home) as served:
            assert "switched off" in served.stdout.readline()
            until(lambda: _deployments(url) != [], 240)
            (found,) = _deployments(url)
            assert [schedule["active"] for schedule in found["schedules"]] == [False]
            assert ask(url, "flow_runs/filter", {}) == []
            run = ask(url, f"deployments/{found['id']}/create_flow_run", {"parameters": {"profile": "smoke"}})
            until(lambda: _state(url, run["id"]) in ("COMPLETED", "FAILED", "CRASHED"), 240)
            assert _state(url, run["id"]) == "COMPLETED"
    assert len(journal(folder)) == len(GRAPH) * ITEMS
    until(lambda: family(folder) == [], 30)


def _deployments(url: str) -> list:
    try:
        return ask(url, "deployments/filter", {})
    except OSError:
        return []


def _state(url: str, run: str) -> str:
    return ask(url, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0]["state_type"]
