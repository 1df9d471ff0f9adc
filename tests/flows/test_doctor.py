"""The doctor says a line for each thing that has to be right."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from repository import GRAPH, build

from flows import doctor
from tasks.doctor import checks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door sets defaults for its own process; this one belongs to other tests too."""
    monkeypatch.setattr(doctor.environment, "set_defaults", lambda root: None)


def test_every_declared_package_is_looked_at():
    found = {finding.name: finding for finding in checks.packages(ROOT)}
    assert {"torch", "prefect", "fastapi", "dvc", "duckdb", "mlflow"} <= set(found)
    assert all(finding.good for finding in found.values()), found


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("fastapi<0.1", r"fastapi.*<0.1 is needed"),
        ("no-such-package>=1", "missing, >=1 is needed"),
    ],
)
def test_a_wrong_or_missing_version_is_named(tmp_path, requirement, words):
    (tmp_path / "pyproject.toml").write_text(f'[project]\ndependencies = ["{requirement}"]\n')
    (finding,) = checks.packages(tmp_path)
    assert not finding.good
    assert words.replace("fastapi.*", "") in finding.detail


def test_a_folder_without_its_list_of_dependencies_is_bad(tmp_path):
    (finding,) = checks.packages(tmp_path)
    assert finding.name == "pyproject.toml"
    assert not finding.good


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("fastapi==0.1", "{} (run together: 0.1)"),
        ("FastAPI=={}", "{}"),
        ("# fastapi==0.1", "{}"),
        ("fastapi==0.1; python_version < '3'", "{}"),
        ("", "{}"),
    ],
)
def test_another_version_than_the_one_run_together_is_named_and_well(tmp_path, line, shown):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["fastapi"]\n')
    (tmp_path / "constraints.txt").write_text(line.format(version("fastapi")) + " # why\n")
    assert list(checks.packages(tmp_path)) == [checks.Finding("fastapi", True, shown.format(version("fastapi")))]


def test_packages_below_the_dependencies_are_named_where_another_version_is_installed(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["prefect"]\n')
    (tmp_path / "constraints.txt").write_text(f"Starlette==0.1\nno-such-package==1\npytest=={version('pytest')}\n")
    _, below = checks.packages(tmp_path)
    assert below == checks.Finding("starlette", True, f"{version('starlette')} (run together: 0.1)")


def test_a_server_that_cannot_be_made_is_bad(monkeypatch):
    monkeypatch.setattr(checks, "SERVER", "raise TypeError(\"Body() got an unexpected keyword argument 'min_items'\")")
    assert checks.prefect_server(ROOT) == (False, "TypeError: Body() got an unexpected keyword argument 'min_items'")


def test_a_pipeline_that_dvc_cannot_read_is_bad(tmp_path):
    folder = build(tmp_path / "copy", {"make": GRAPH["make"]})
    assert checks.pipeline(folder) == (True, "no dvc.lock, so every stage will run")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    assert checks.pipeline(folder) == (True, "DVC reads it")
    shutil.rmtree(folder / ".git")
    good, found = checks.pipeline(folder)
    assert not good
    assert "DVC needs one" in found


def test_no_git_program_is_said(tmp_path, monkeypatch):
    assert checks.git(tmp_path) == (True, "no repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.git(tmp_path) == (True, "no git program on PATH: MLflow's records will name no commit")


def test_steering_that_loses_its_place_is_bad(monkeypatch):
    assert checks.steering(ROOT)[0]
    monkeypatch.setattr("psr.steering.probe._steered_well", set())
    monkeypatch.setattr(
        "psr.steering.positions._past", lambda values: None
    )  # as when transformers renames what is read
    good, found = checks.steering(ROOT)
    assert not good
    assert "steering, at the start of a forward" in found


def test_schedules_steering_and_the_pipeline_are_among_what_is_looked_at(monkeypatch):
    monkeypatch.setattr(checks, "packages", lambda root: iter(()))
    monkeypatch.setattr(checks, "CHECKS", {name: lambda root: (True, "") for name in checks.CHECKS})
    assert {finding.name for finding in checks.findings(ROOT)} >= {
        "python",
        "prefect server",
        "schedules",
        "steering",
        "git",
        "pipeline",
    }


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
