"""What is installed: the library with the packages it names and no others, and a wheel that holds all that is read from it."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flows
from tests.results_folder import write_results

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = ("psr", "tasks", "flows")
IMPORT_ALL = """
import importlib, pkgutil, psr
for name in psr.__all__:
    getattr(psr, name)
for module in pkgutil.walk_packages(psr.__path__, "psr.", onerror=lambda name: None):
    if module.name.split(".")[1] not in ("serve", "cli_serve", "ui", "cli_ui"):  # of the extras serve and ui
        importlib.import_module(module.name)
"""
ANSWER = """
import psr
lm = psr.load_model("data/testbed/model")
prompt = psr.encode_chat(lm.tokenizer, (psr.Message("user", "Tell me about trains."),))
print(psr.generate(lm, [psr.Request(prompt, seed=0)], psr.Sampling(6, temperature=0))[0].text)
"""
INDEX = """
import sys
from pathlib import Path
from tasks.shown import index, query, report
from tasks.studies.claims import sql
print(len(query.ask(index.rebuild(Path(sys.argv[1])), "SELECT * FROM headline").rows), report.TEMPLATES.is_dir(), sql.FILE.is_file())
"""


def needed(requirements: list[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Everything that pip would install for `requirements`, of what is installed here."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:  # other platforms' names, such as CUDA's with a CPU build of torch
                continue
            needed(found[name].requires or [], found)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, str]:
    """An environment in which the library's own dependencies are installed and nothing else: use with `python -S`."""
    folder = tmp_path_factory.mktemp("alone")
    for one in needed(PROJECT["dependencies"], {}).values():
        for top in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(one.locate_file(top))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def said(code: list[str], where: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *code], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.mark.slow
def test_the_library_needs_what_it_names_and_nothing_else(alone):
    assert said(["-S", "-c", "import prefect"], ROOT, alone)[0] == 1
    assert said(["-S", "-W", "ignore", "-c", IMPORT_ALL], ROOT, alone) == (0, "", "")
    assert said(["-S", "-W", "ignore", "-c", ANSWER], ROOT, alone) == (0, "Steel rails cost ten coins,", "")
    status, out, _ = said(["-S", "-m", "psr.cli", "--help"], ROOT, alone)
    assert (status, "Steer a language model" in out) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reproduce", "sql", "doctor"])
def test_a_command_without_the_pipelines_packages_says_what_to_install(command, alone):
    status, out, error = said(["-S", "-m", f"flows.{command}"], ROOT, alone)
    assert (status, out, error.count("\n")) == (2, "", 0)
    assert "no prefect, fastapi, sqlalchemy, dvc, duckdb, mlflow, datasets, pyarrow" in error
    assert error.endswith("Run: pip install -e '.[pipeline]' -c constraints.txt")


def test_what_commands_look_for_is_what_the_extra_installs():
    homes = packages_distributions()  # mlflow's name is shared by three
    looked_for = [{canonicalize_name(home) for home in homes[name]} for name in flows._NEEDS]
    declared = {canonicalize_name(Requirement(one).name) for one in PROJECT["optional-dependencies"]["pipeline"]}
    assert all(homes & declared for homes in looked_for)
    assert declared <= set().union(*looked_for)
    assert not declared & {canonicalize_name(Requirement(one).name) for one in PROJECT["dependencies"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since building leaves folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in CODE:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
    ]
    subprocess.run([*pip, str(source)], check=True, capture_output=True, text=True)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    return target


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_code_and_nothing_else(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", *CODE], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(tracked)


@pytest.mark.slow
def test_an_installed_wheel_works_from_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    empty = tmp_path / "empty"
    empty.mkdir()
    where = "import psr, tasks, flows; print(psr.__file__, tasks.__file__, flows.__file__)"
    assert said(["-c", where], empty, environment)[1].split() == [
        str(installed / name / "__init__.py") for name in CODE
    ]
    assert said(["-W", "ignore", "-c", IMPORT_ALL], empty, environment)[:2] == (0, "")
    assert (
        "Steer a language model"
        in subprocess.run(
            [installed / "bin" / "psr", "--help"],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    write_results(tmp_path)
    status, out, error = said(["-W", "ignore", "-c", INDEX, str(tmp_path)], empty, environment)
    assert (status, out.endswith(" True True"), int(out.split()[0] or 0) > 0) == (0, True, True), error
    status, out, error = said(["-m", "flows.reproduce"], empty, environment)
    assert (status, out, error.count("\n")) == (2, "", 0)
    assert error.startswith("the pipeline runs in a checkout of its repository")
