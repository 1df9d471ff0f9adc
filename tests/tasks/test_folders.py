"""dvc.yaml names all the code that a step runs on, by folder: no edit leaves stale results called up to date."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from flows.sections import Profile
from tasks.benchmarks.judges import JUDGES
from tasks.engine.lockfiles import CODE

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# what they say or keep changes no result
WITHOUT_EFFECT = (
    "tasks/engine/", "tasks/shown/claims.py", "tasks/shown/tables.py", "psr/errors.py", "psr/plugs.py", "flows/params.py",
    "flows/sections.py", "flows/environment.py", "flows/doors.py",
)  # fmt: skip
SHOWN = ("psr/show/",)  # how a notebook shows what psr returns is a result of the report alone
REGISTERED = {"tasks.benchmarks.judges": JUDGES}  # module -> name -> dotted path of a plug, which it imports by that


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*CODE, exclude_type_checking_imports=True, cache_dir=None)


def loaded(step: str) -> set[str]:
    """The files that the flow of a step imports, wherever in a file it does so."""
    without_effect = WITHOUT_EFFECT if step == "report" else (*WITHOUT_EFFECT, *SHOWN)
    seen, todo = set(), [f"flows.{step}"]
    while todo:
        module = todo.pop()
        path = _file(module)
        if module in seen or path.startswith(without_effect):
            continue
        seen.add(module)
        todo += graph().find_modules_directly_imported_by(module)
        todo += [path.partition(":")[0] for path in REGISTERED.get(module, {}).values()]
    return {_file(module) for module in seen}


def _file(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(ROOT).as_posix()


def code_deps(step: str) -> list[str]:
    return [dep for dep in STAGES[step]["do"]["deps"] if dep.split("/")[0] in CODE]


STEPS = [step for step in STAGES if step != "settings"]  # that one is asked every time


@pytest.mark.parametrize("step", STEPS)
def test_everything_that_a_step_imports_lies_in_its_dependencies(step):
    deps = [ROOT / dep for dep in code_deps(step)]
    missed = [path for path in loaded(step) if not any((ROOT / path).is_relative_to(dep) for dep in deps)]
    assert sorted(missed) == []


@pytest.mark.parametrize("step", STEPS)
def test_every_dependency_on_code_is_imported(step):
    files = [ROOT / path for path in loaded(step)]
    assert [dep for dep in code_deps(step) if not any(file.is_relative_to(ROOT / dep) for file in files)] == []


@pytest.mark.parametrize("step", STEPS)
def test_a_step_reads_parameters_that_a_profile_has_and_a_hash_of_each_input_that_they_name(step):
    (names,) = (next(iter(group.values())) for group in STAGES[step]["do"]["params"])
    sections = {name for name in names if "." not in name}
    hashes = {name for name in names if "." in name}
    assert sections <= set(Profile.model_fields)
    asks = "attributes_of(" in (ROOT / "flows" / f"{step}.py").read_text()  # else the benchmarks' files are not read
    knows = "tasks/benchmarks" in STAGES[step]["do"]["deps"]  # distill has all it needs from what complete wrote
    expected = {"model": {"inputs.model"}, "judge": {"plugs.judge"}, "methods": {"plugs.methods"}}
    expected["benchmarks"] = ({"plugs.benchmarks"} if knows else set()) | ({"inputs.benchmarks"} if asks else set())
    assert hashes == set().union(*(expected.get(section, set()) for section in sections))


def test_a_bare_dvc_repro_runs_quick_alone_and_the_other_file_has_the_same_stages_for_every_profile():
    default, others = ((ROOT / place / "dvc.yaml").read_text() for place in (".", "data/profiles"))
    head, stages = default.split("stages:\n")
    assert yaml.safe_load(head)["vars"][0]["defaults_alone"] == {"quick": {}}
    assert others.split("stages:\n")[1] == stages.replace("${defaults_alone}", "${profiles}")
