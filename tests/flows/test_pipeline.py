"""The whole system on the smoke profile: every stage, every store and every door, run once in a clone of this repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import add_smoke, environment, family, started, until

from tasks.engine.lockfiles import LOCKS, versions

ROOT = Path(__file__).resolve().parents[2]
STEPS = (
    "complete",
    "select",
    "extract",
    "distill",
    "faithfulness",
    "search",
    "steer",
    "judge",
    "results",
    "claims",
    "report",
)
ADDRESS = "data/profiles/dvc.yaml:{}@smoke"
LOCK = "data/profiles/dvc.lock"
GUARD = """
import os, socket
_connect = socket.socket.connect
def connect(self, address):
    host = str(address[0]) if isinstance(address, tuple) else "localhost"
    if host not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["PSR_TEST_NETWORK"], "a") as log:
            log.write(host + "\\n")
    return _connect(self, address)
socket.socket.connect = connect
_lookup = socket.getaddrinfo
def getaddrinfo(host, *args, **kwargs):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", socket.gethostname()):
        with open(os.environ["PSR_TEST_NETWORK"], "a") as log:
            log.write(f"lookup of {host}\\n")
    return _lookup(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
"""


def clone(to: Path, *, smoke: bool = True) -> Path:
    """The repository as a fresh clone would have it, with what is not committed yet, and the profile that the tests run."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name, follow_symlinks=False)
    for lock in LOCKS:
        (to / lock).unlink(missing_ok=True)
    if smoke:
        add_smoke(to)
    subprocess.run(["git", "init", "-q", str(to)], check=True)
    return to


def door(folder: Path, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """One of the project's commands in a clone."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=500,
        start_new_session=True,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clone in which the smoke profile was reproduced under a guard that writes down every look at the network."""
    folder = clone(tmp_path_factory.mktemp("clone"))
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(GUARD)
    done = door(
        folder, "flows.reproduce", "--profile", "smoke", PYTHONPATH=str(guard), PSR_TEST_NETWORK=str(folder / "network")
    )
    return folder, done.stdout


def outputs(folder: Path) -> dict[str, bytes]:
    """Every output of the smoke profile; the records of its runs say who and when, and are none."""
    files = sorted(path.relative_to(folder) for path in (folder / "data/smoke").rglob("*") if path.is_file())
    return {path.as_posix(): (folder / path).read_bytes() for path in files if path.parts[2] != "runs"}


def sql(folder: Path, query: str) -> list[dict]:
    return json.loads(door(folder, "flows.sql", query, "--format", "json").stdout)


def test_one_command_runs_every_stage_and_prints_the_table(finished):
    folder, said = finished
    assert "A-PSR MSE·QR" in said
    assert "prompt" in said
    assert "orchestration" in said
    assert set(STEPS) <= {p.name for p in (folder / "data/smoke").iterdir()}


def test_the_default_path_never_looks_at_the_network(finished):
    folder, _ = finished
    log = folder / "network"
    assert not log.exists(), log.read_text()


def test_a_second_run_does_nothing_and_says_so(finished):
    folder, _ = finished
    before = outputs(folder)
    said = door(folder, "flows.reproduce", "--profile", "smoke").stdout
    assert "Nothing to do" in said
    assert "A-PSR MSE·QR" in said
    assert outputs(folder) == before


def test_dvc_agrees_that_everything_is_up_to_date(finished):
    folder, _ = finished
    targets = [ADDRESS.format(step) for step in ("complete", "distill", "results", "report")]
    assert json.loads(door(folder, "dvc", "status", "--json", *targets).stdout) == {}


@pytest.mark.slow
def test_dvc_repro_makes_the_same_files_and_the_same_lock(finished, tmp_path):
    folder, _ = finished
    other = clone(tmp_path / "other")
    door(other, "dvc", "repro", ADDRESS.format("report"))
    assert outputs(other) == outputs(folder)
    assert yaml.safe_load((other / LOCK).read_text()) == yaml.safe_load((folder / LOCK).read_text())


@pytest.mark.slow
def test_killed_in_every_step_it_goes_on_to_the_same_files_and_makes_no_finished_cell_twice(finished, tmp_path):
    folder, _ = finished
    other = clone(tmp_path / "other")
    made: dict[str, int] = {}
    for kind in ("complete", "extract", "modules", "search", "steer", "faithfulness"):
        with started(other, "--profile", "smoke") as parent:
            until(lambda: (other / ".psr/cells" / kind).is_dir(), 200)  # noqa: B023
            os.kill(parent.pid, signal.SIGKILL)
            until(lambda: family(other) == [], 30)
        assert {name: at for name, at in cells(other).items() if made.get(name, at) != at} == {}
        made = cells(other)
    assert "A-PSR MSE·QR" in door(other, "flows.reproduce", "--profile", "smoke").stdout
    assert {name: at for name, at in made.items() if cells(other)[name] != at} == {}
    assert outputs(other) == outputs(folder)
    assert set(cells(other)) == set(cells(folder))


def cells(folder: Path) -> dict[str, int]:
    """Every whole cell and the file that it lies in: one that is made again has another."""
    found = (folder / ".psr/cells").glob("*/*/SUMS")
    return {f"{path.parts[-3]}/{path.parts[-2]}": path.stat().st_ino for path in found}


@pytest.mark.slow
def test_a_damaged_cell_is_made_again_and_said_so(finished, tmp_path):
    folder, _ = finished
    other = tmp_path / "other"
    shutil.copytree(folder, other, symlinks=True)
    cell = next((other / ".psr/cells/modules").iterdir())
    (cell / "modules.parquet").unlink()
    with open(other / "params.yaml", "a") as file:
        file.write("# a comment\n")
    for step in ("distill", "report"):
        shutil.rmtree(other / f"data/smoke/{step}")
    shutil.rmtree(other / ".dvc/cache")
    said = door(other, "flows.reproduce", "--profile", "smoke").stdout
    assert f"a finished part is damaged and made again: .psr/cells/modules/{cell.name}" in said
    assert outputs(other) == outputs(folder)


def test_steps_versions_show_in_prefect_and_mlflow(finished):
    folder, _ = finished
    with sqlite3.connect(folder / ".psr/prefect/prefect.db") as database:
        shown = dict(database.execute("select name, flow_version from flow_run where name like '%@smoke'").fetchall())
    known = {f"{name}@smoke": version for name, version in versions(folder, "smoke").items() if name in STEPS}
    assert shown == known
    with sqlite3.connect(folder / ".psr/prefect/prefect.db") as database:
        artifacts = dict(database.execute("select key, data from artifact").fetchall())
    assert sorted(artifacts) == ["headline-smoke", "report-smoke"]
    assert "A-PSR MSE" in artifacts["headline-smoke"]
    assert "data/smoke/report/index.html" in artifacts["report-smoke"]
    with sqlite3.connect(folder / ".psr/mlflow.db") as database:
        tagged = database.execute("select distinct value from tags where key = 'code.distill'").fetchall()
    assert tagged == [(known["distill@smoke"],)]


def test_a_clone_that_pulls_recomputes_nothing_and_has_the_same_table(finished, tmp_path):
    folder, _ = finished
    remote, other = tmp_path / "remote", clone(tmp_path / "other")
    door(folder, "dvc", "remote", "add", "-f", "-d", "team", str(remote))
    door(folder, "dvc", "push", ADDRESS.format("report"), "-d")
    for name in (LOCK, ".dvc/config"):
        shutil.copy(folder / name, other / name)
    (other / "data/smoke").mkdir()
    for name in ("headline.json", "metrics.json"):  # git has them
        shutil.copy(folder / "data/smoke" / name, other / "data/smoke" / name)
    door(other, "dvc", "pull", ADDRESS.format("report"), "-d")
    said = door(other, "flows.reproduce", "--profile", "smoke").stdout
    assert "Nothing to do" in said
    query = "select * exclude (profile) from headline order by all"
    assert sql(other, query) == sql(folder, query)
    assert (other / ".psr/mlflow.db").exists()


def test_every_view_can_be_asked(finished):
    folder, _ = finished
    for view in (
        "completions",
        "judgements",
        "headline",
        "curves",
        "token_strengths",
        "lineage",
        "triplets",
        "modules",
    ):
        assert sql(folder, f"select count(*) as n from {view}")[0]["n"] > 0, view


def test_every_completion_has_a_judgement_or_says_why_not(finished):
    folder, _ = finished
    rows = sql(
        folder,
        "select c.id from completions c left join judgements j on j.completion = c.id where j.id is null "
        "and c.stage <> 'faithfulness'",
    )  # those answers are only run again, with and without the prompt
    assert rows == []


def test_a_judgement_is_traced_back_to_its_pair(finished):
    folder, _ = finished
    found = sql(folder, "select id from judgements where stage = 'judge' and method = 'a-psr-mse-qr' limit 1")[0]["id"]
    said = door(folder, "flows.trace", found).stdout
    assert all(word in said for word in ("judgement", "completion", "module", "triplet", "pair"))


def test_mlflow_holds_a_run_and_a_model_for_every_module(finished):
    folder, _ = finished
    code = (
        "import mlflow, sys; mlflow.set_tracking_uri('sqlite:///.psr/mlflow.db'); c = mlflow.MlflowClient(); "
        "runs = [r for e in c.search_experiments() for r in c.search_runs([e.experiment_id], \"tags.`psr.kind` = 'module'\")]; "
        "print(len(runs), len(c.search_registered_models()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    modules = sql(folder, "select count(*) as n from modules")[0]["n"]
    assert done.stdout.split() == [str(modules), "1"]


def test_the_report_stands_alone(finished):
    folder, _ = finished
    page = (folder / "data/smoke/report/index.html").read_text(encoding="utf-8")
    assert "A-PSR MSE·QR" in page
    assert 'src="http' not in page
    assert 'href="http' not in page.replace('href="https://arxiv.org', "")


def test_the_psr_command_steers_with_a_module_of_the_run(finished):
    folder, _ = finished
    module = folder / "data/smoke/distill/modules/persona-pirate/a-psr-mse-qr/seed-123"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from psr.cli import main; main()",
            "steer",
            "--model",
            "data/testbed/model",
            "--module",
            str(module),
            "--alpha",
            "1.2",
            "Tell me about trains.",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "trains" in done.stdout.lower()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("data/smoke/distill/modules.parquet", "damaged"),
        ("data/smoke/distill/modules/persona-pirate/a-psr-mse-qr/seed-123/adapter_model.safetensors", "damaged"),
    ],
)
def test_a_damaged_output_is_named_or_made_again_and_never_used(finished, tmp_path, file, message):
    folder, _ = finished
    other = tmp_path / "other"
    shutil.copytree(folder, other, symlinks=True)
    target = other / file
    target.unlink()  # a new file: the cache behind the old one stays whole
    target.write_bytes(b"junk")
    (other / "data/smoke/results/figures.parquet").unlink()
    said = door(other, "flows.reproduce", "--profile", "smoke", check=False)
    assert said.returncode == 0 or message in said.stdout + said.stderr
    assert target.read_bytes() != b"junk" or said.returncode != 0


def test_no_process_outlives_a_run(finished):
    from repository import family

    folder, _ = finished
    assert family(folder) == []
