"""Two people, each with a clone, fill one tracker: nothing of the other's is written over, and the same results add nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tasks.shown import track, tracker
from tests.results_folder import ATTRIBUTES, SLUGS, module_id, write_results
from tests.tracked import dumped, git, runs, set_figure, write_settings

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's own, on import

PROFILE = "quick"
CONST, PSR = (module_id(ATTRIBUTES[0], slug) for slug in SLUGS)


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A tracker that both reach: one database, or a server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/shared.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    program = [sys.executable, "-m", "mlflow", "server", *store, "--port", port, "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(program, cwd=tmp_path, env=environment, start_new_session=True) as process:
        try:
            until = time.monotonic() + 180
            while not _ready(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)


def _ready(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path]:
    """Ann's clone with results, and Bob's with the same, as `dvc pull` brings them."""
    first = tmp_path / "first"
    first.mkdir()
    git(first, "init", "-q")
    (first / ".gitignore").write_text("/.psr\n/data\n")
    _commit(first, "Ann")
    second = tmp_path / "second"
    git(tmp_path, "clone", "-q", str(first), str(second))
    git(second, "config", "user.name", "Bob")
    data = write_results(first, PROFILE, adapters=True)
    write_settings(first, PROFILE)
    shutil.copytree(data, second / "data" / PROFILE)
    return first, second


def _commit(folder: Path, name: str) -> str:
    git(folder, "config", "user.name", name)
    git(folder, "config", "user.email", f"{name}@example.org")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def test_nothing_of_another_clone_is_written_over(
    address: str, clones: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = clones
    track.run(first, PROFILE, address)
    with tracker.opened(address, None) as store:
        client = store.client
    name = track.model_name(PROFILE, ATTRIBUTES[0])
    of_ann = dumped(client, PROFILE)
    folder = first / "data" / PROFILE / "distill/modules/persona-gloomy/a-psr-mse-qr"
    best = client.get_model_version_by_alias(name, "best")
    held = Path(client.download_artifacts(best.run_id, "model/artifacts/a-psr-mse-qr"))
    assert {file.name: file.read_bytes() for file in held.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }

    track.run(second, PROFILE, address)  # who has pulled adds nothing
    assert dumped(client, PROFILE) == of_ann

    commit = _commit(second, "Bob")
    write_settings(second, PROFILE, search={"questions": 2})
    set_figure(second / "data" / PROFILE, ATTRIBUTES[0], SLUGS[0], 99.0)
    track.run(second, PROFILE, address)  # another evaluation, on a branch
    both = dumped(client, PROFILE)
    assert {key: both["runs"][key] for key in of_ann["runs"]} == of_ann["runs"]
    assert len(both["runs"]) == 2 * len(of_ann["runs"]) == 10
    by_user = {(run.data.tags["mlflow.user"], run.data.tags["psr.module"]): run for run in runs(client, PROFILE)}
    assert [by_user[who, CONST].data.metrics["ta_cp"] for who in ("Ann", "Bob")] == [20.0, 99.0]
    assert [by_user[who, CONST].data.params["search.questions"] for who in ("Ann", "Bob")] == ["4", "2"]
    assert by_user["Bob", CONST].data.tags["mlflow.source.git.commit"] == commit
    own = {who: f"best-{by_user[who, PSR].data.tags['psr.evaluation'][:8]}" for who in ("Ann", "Bob")}
    meant = {alias: client.get_model_version_by_alias(name, alias) for alias in ("best", *own.values())}
    assert meant["best"].run_id == meant[own["Ann"]].run_id == by_user["Ann", PSR].info.run_id
    assert meant[own["Bob"]].run_id == by_user["Bob", CONST].info.run_id
    assert "main figure 93.0, the highest of 2" in meant["best"].tags["psr.best"]
    assert f"another evaluation, by Ann, stay so; the best under this one is {own['Bob']}" in capsys.readouterr().out

    set_figure(first / "data" / PROFILE, ATTRIBUTES[0], SLUGS[0], 97.0)
    git(first, "config", "user.name", "Cleo")
    track.run(first, PROFILE, address)  # a better one under Ann's evaluation is the best, whoever has it
    meant = {alias: client.get_model_version_by_alias(name, alias) for alias in ("best", own["Ann"])}
    assert meant["best"].version == meant[own["Ann"]].version
    assert meant["best"].tags["psr.user"] == "Cleo"
    assert "97.0, the highest of 3" in meant["best"].tags["psr.best"]
    assert "psr.best" not in client.get_model_version(name, best.version).tags
    write_settings(first, PROFILE, search={"questions": 8})
    track.run(first, PROFILE, address)  # and who has put it there may go on to another evaluation
    after = client.get_model_version_by_alias(name, "best")
    assert client.get_run(after.run_id).data.params["search.questions"] == "8"
