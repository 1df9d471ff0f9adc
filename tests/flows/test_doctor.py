"""The doctor says a line for each thing that has to be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import doctor
from tasks import checks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door sets defaults for its own process; this one belongs to other tests too."""
    monkeypatch.setattr(doctor.environment, "set_defaults", lambda root: None)


def test_every_declared_package_is_looked_at():
    found = {finding.name: finding for finding in checks.packages(ROOT)}
    assert {"torch", "prefect", "fastapi", "dvc", "duckdb", "mlflow"} <= set(found)
    assert all(finding.good for finding in found.values()), found


@pytest.mark.parametrize(("requirement", "words"), [
    ("fastapi<0.1", r"fastapi.*<0.1 is needed"), ("no-such-package>=1", "missing, >=1 is needed"),
])
def test_a_wrong_or_missing_version_is_named(tmp_path, requirement, words):
    (tmp_path / "pyproject.toml").write_text(f'[project]\ndependencies = ["{requirement}"]\n')
    (finding,) = checks.packages(tmp_path)
    assert not finding.good
    assert words.replace("fastapi.*", "") in finding.found


def test_a_server_that_cannot_be_made_is_bad(monkeypatch):
    monkeypatch.setattr(checks, "SERVER", "raise TypeError(\"Body() got an unexpected keyword argument 'min_items'\")")
    assert checks.prefect_server(ROOT) == (False, "TypeError: Body() got an unexpected keyword argument 'min_items'")


def test_no_repository_is_bad(tmp_path):
    good, found = checks.git(tmp_path)
    assert not good
    assert "repository" in found


def test_the_door_prints_a_line_each_and_fails_for_a_bad_one(monkeypatch, capsys):
    findings = [checks.Finding("python", True, "3.11"), checks.Finding("fastapi", False, "0.999, <0.151 is needed")]
    monkeypatch.setattr(doctor, "findings", lambda root: iter(findings))
    assert doctor.main() == 1
    assert capsys.readouterr().out.splitlines()[:2] == ["ok   python: 3.11", "BAD  fastapi: 0.999, <0.151 is needed"]
    monkeypatch.setattr(doctor, "findings", lambda root: iter(findings[:1]))
    assert doctor.main() == 0


@pytest.mark.slow
def test_this_installation_is_well(capsys):
    assert doctor.main() == 0, capsys.readouterr().out
