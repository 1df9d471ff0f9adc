"""dvc.yaml names all the code that a step runs on, by folder: no edit leaves stale results called up to date."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from flows.params import Profile
from tasks.engine.lockfiles import CODE

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# what they say or keep changes no result
WITHOUT_EFFECT = (
    "tasks/engine/", "tasks/shown/claims.py", "psr/errors.py", "flows/params.py", "flows/environment.py", "flows/doors.py"
)  # fmt: skip


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*CODE, exclude_type_checking_imports=True, cache_dir=None)


def loaded(step: str) -> set[str]:
    """The files that the flow of a step imports, wherever in a file it does so."""
    seen, todo = set(), [f"flows.{step}"]
    while todo:
        module = todo.pop()
        path = _file(module)
        if module in seen or path.startswith(WITHOUT_EFFECT):
            continue
        seen.add(module)
        todo += graph().find_modules_directly_imported_by(module)
    return {_file(module) for module in seen}


def _file(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(ROOT).as_posix()


def code_deps(step: str) -> list[str]:
    return [dep for dep in STAGES[step]["do"]["deps"] if dep.split("/")[0] in CODE]


@pytest.mark.parametrize("step", STAGES)
def test_everything_that_a_step_imports_lies_in_its_dependencies(step):
    deps = [ROOT / dep for dep in code_deps(step)]
    missed = [path for path in loaded(step) if not any((ROOT / path).is_relative_to(dep) for dep in deps)]
    assert sorted(missed) == []


@pytest.mark.parametrize("step", STAGES)
def test_every_dependency_on_code_is_imported(step):
    files = [ROOT / path for path in loaded(step)]
    assert [dep for dep in code_deps(step) if not any(file.is_relative_to(ROOT / dep) for file in files)] == []


@pytest.mark.parametrize("step", STAGES)
def test_a_step_is_handed_sections_that_a_profile_has(step):
    names = [name.removeprefix("${key}.") for name in STAGES[step]["do"]["params"]]
    assert set(names) <= set(Profile.model_fields)


@pytest.mark.parametrize("place", [".", "data/profiles"])
def test_the_folders_that_a_profile_reads_are_its_dependencies(place):
    profiles = yaml.safe_load((ROOT / place / "profiles.yaml").read_text())["profiles"]
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, inputs in profiles.items():
        assert settings[name]["model"]["path"] == inputs["model"]
        for benchmark in settings[name]["benchmarks"]:
            assert Path(benchmark["path"]).is_relative_to(inputs["benchmarks"]), (name, benchmark["path"])


def test_a_bare_dvc_repro_runs_quick_alone_and_every_profile_is_somewhere():
    here, others = (
        yaml.safe_load((ROOT / place / "profiles.yaml").read_text())["profiles"] for place in (".", "data/profiles")
    )
    assert list(here) == ["quick"]
    assert {*here, *others} == set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert (ROOT / "data/profiles/dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
