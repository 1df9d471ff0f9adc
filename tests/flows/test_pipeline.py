"""The whole system on the smoke profile: every stage, every store and every door, run once in a clone of this repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import environment, family, started, until

from tasks.engine.files import read_json
from tasks.engine.planning import plan

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("complete", "select", "extract", "distill", "search", "steer", "judge", "results", "report")
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


def clone(to: Path) -> Path:
    """The repository as a fresh clone would have it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    (to / "dvc.lock").unlink(missing_ok=True)
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
    """Every output of the smoke profile."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "data/smoke").rglob("*")) if p.is_file()
    }


def sql(folder: Path, query: str) -> list[dict]:
    return json.loads(door(folder, "flows.sql", query, "--format", "json").stdout)


def test_one_command_runs_every_stage_and_prints_the_table(finished):
    folder, said = finished
    assert "A-PSR MSE·QR" in said
    assert "prompt" in said
    assert "orchestration" in said
    stages = {p.name for p in (folder / "data/smoke").iterdir()}
    assert {
        "complete",
        "select",
        "extract",
        "distill",
        "search",
        "steer",
        "judge",
        "faithfulness",
        "results",
        "report",
    } <= stages


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
    targets = [f"{stage}@smoke" for stage in ("complete", "distill", "results", "report")]
    assert json.loads(door(folder, "dvc", "status", "--json", *targets).stdout) == {}


@pytest.mark.slow
def test_dvc_repro_makes_the_same_files_and_the_same_lock(finished, tmp_path):
    folder, _ = finished
    other = clone(tmp_path / "other")
    door(other, "dvc", "repro", "report@smoke")
    assert outputs(other) == outputs(folder)
    assert yaml.safe_load((other / "dvc.lock").read_text()) == yaml.safe_load((folder / "dvc.lock").read_text())


@pytest.mark.slow
def test_killed_at_five_moments_it_goes_on_to_the_same_files_and_repeats_no_finished_stage(finished, tmp_path):
    folder, _ = finished
    other = clone(tmp_path / "other")
    begun: dict[str, float] = {}
    for stage in ("complete", "extract", "distill", "search", "steer"):
        with started(other, "--profile", "smoke") as parent:
            until(lambda: timing(other, stage).get("state") == "running", 200)  # noqa: B023
            os.kill(parent.pid, signal.SIGKILL)
            until(lambda: family(other) == [], 30)
        again = {name: at for name, at in begun.items() if timing(other, name)["started"] != at}
        assert again == {}
        done = [name for name in STAGES if timing(other, name).get("state") == "done"]
        begun = {name: timing(other, name)["started"] for name in done}
        assert len(done) == STAGES.index(stage)
    assert "A-PSR MSE·QR" in door(other, "flows.reproduce", "--profile", "smoke").stdout
    assert {name for name, at in begun.items() if timing(other, name)["started"] != at} == set()
    assert outputs(other) == outputs(folder)


def test_stages_that_run_the_model_run_one_at_a_time(finished, monkeypatch):
    folder, _ = finished
    monkeypatch.chdir(folder)
    ours = [step.name.partition("@")[0] for step in plan(folder, "smoke") if step.computes]
    assert {"distill", "steer", "faithfulness"} <= set(ours)
    spans = sorted((timing(folder, stage)["started"], timing(folder, stage)["ended"]) for stage in ours)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def timing(folder: Path, stage: str) -> dict[str, Any]:
    """What .psr/timings says of the last run of a stage of the smoke profile."""
    return read_json(folder / ".psr" / "timings" / f"{stage}@smoke.json") or {}


def test_a_clone_that_pulls_recomputes_nothing_and_has_the_same_table(finished, tmp_path):
    folder, _ = finished
    remote, other = tmp_path / "remote", clone(tmp_path / "other")
    door(folder, "dvc", "remote", "add", "-f", "-d", "team", str(remote))
    door(folder, "dvc", "push", "report@smoke", "-d")
    for name in ("dvc.lock", ".dvc/config"):
        shutil.copy(folder / name, other / name)
    shutil.copytree(
        folder / "data/smoke/results",
        other / "data/smoke/results",
        ignore=lambda d, n: [x for x in n if x != "headline.json"],
    )
    door(other, "dvc", "pull", "report@smoke", "-d")
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
        "runs = [r for e in c.search_experiments() for r in c.search_runs([e.experiment_id])]; "
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
    (other / "data/smoke/results/headline.parquet").unlink()
    said = door(other, "flows.reproduce", "--profile", "smoke", check=False)
    assert said.returncode == 0 or message in said.stdout + said.stderr
    assert target.read_bytes() != b"junk" or said.returncode != 0


def test_no_process_outlives_a_run(finished):
    from repository import family

    folder, _ = finished
    assert family(folder) == []
