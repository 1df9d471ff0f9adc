"""prefect.yaml deploys the worker's flow: its form, its one schedule, its limit. tests/flows/test_worker.py runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows import params

ROOT = Path(__file__).resolve().parents[2]


def test_one_deployment_allows_one_run_and_leaves_its_schedules_switch_to_people():
    (found,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert (found["concurrency_limit"], found["enforce_parameter_schema"]) == (1, True)
    (nightly,) = found["schedules"]
    assert nightly == {"slug": "nightly", "cron": "0 3 * * *"}


def test_its_form_offers_the_profiles_and_takes_overrides(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading a script puts its folder on the path
    (found,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    fields = parameter_schema(load_flow_from_entrypoint(found["entrypoint"])).properties
    assert list(fields) == ["profile", "overrides"]
    assert tuple(fields["profile"]["enum"]) == params.profiles(ROOT)
    assert (fields["profile"]["type"], fields["profile"]["default"]) == ("string", "quick")
    assert (fields["overrides"]["type"], fields["overrides"]["items"]) == ("array", {"type": "string"})
    assert fields["overrides"]["default"] == []
