"""The tracker: one run a module however often it is filled, models that load and steer, and clear words when it fails."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from psr.errors import PsrError
from psr.types import short_hash
from tasks.shown import track, tracker
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, SLUGS, module_id, write_results

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's own, on import

LOCK = """
schema: '2.0'
stages:
  distill@{profile}:
    cmd: x
    outs:
    - {{path: data/{profile}/distill, md5: abc.dir, size: 1}}
  distill@other:
    cmd: x
    outs:
    - {{path: data/other/distill, md5: def.dir, size: 1}}
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the whole file (making one takes seconds); every test fills a profile of its own."""
    return tmp_path_factory.mktemp("repo")


@pytest.fixture(autouse=True)
def _default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def profile(repo: Path, request: pytest.FixtureRequest) -> str:
    name = short_hash(request.node.name)
    write_results(repo, name, adapters=True)
    return name


def store(repo: Path, profile: str) -> tracker.Store:
    with tracker.opened(f"sqlite:///{repo / '.psr/mlflow.db'}", None, profile) as opened:
        return opened


def best(repo: Path, profile: str, attribute: str) -> str:
    """The cell that the alias `best` means."""
    client = store(repo, profile).client
    return str(client.get_model_version_by_alias(track.model_name(profile, attribute), "best").tags[tracker.CELL])


def set_figure(data: Path, attribute: str, slug: str, value: float | None) -> None:
    path = data / "results/figures_seeds.parquet"
    rows = tables.read_table(path, "figures_seeds")
    for row in rows:
        if (row["attribute"], row["method"], row["figure"]) == (attribute, slug, "ta_cp"):
            row["value"] = value
    tables.write_table(path, "figures_seeds", rows)


def test_every_module_gets_a_run_with_its_parameters_curve_and_figures(repo: Path, profile: str) -> None:
    assert track.run(repo, profile) == 4
    opened = store(repo, profile)
    assert set(opened.runs) == {f"{profile}/{module_id(a, s)}" for a in ATTRIBUTES for s in SLUGS}
    run = opened.runs[f"{profile}/{module_id('persona/pirate', 'a-psr-mse-qr')}"]
    assert (run.info.run_name, run.info.status) == ("persona/pirate A-PSR MSE·QR", "FINISHED")
    assert (
        run.data.params | {"method": "a-psr-mse-qr", "scope": "A", "fit.lr": "0.01", "triplets": "2"} == run.data.params
    )
    metrics = [
        run.data.metrics[name] for name in ("ta_cp", "ta_cp_low", "ta_cp_alpha", "ta_c80", "ta_c80_coherence", "n")
    ]
    assert metrics == [93.0, 90.0, 1.0, 94.0, 81.0, 2.0]
    curve = [(m.step, m.value) for m in opened.client.get_metric_history(run.info.run_id, "loss")]
    assert curve == [(1, 2.0), (2, 1.0), (3, 2 / 3)]


def test_a_second_run_adds_no_run_no_value_and_no_version(repo: Path, profile: str) -> None:
    track.run(repo, profile)
    opened = store(repo, profile)
    name = track.model_name(profile, ATTRIBUTES[0])
    before = {cell: run.info.run_id for cell, run in opened.runs.items()}, tracker.versions(opened, name)
    track.run(repo, profile)
    again = store(repo, profile)
    assert ({cell: run.info.run_id for cell, run in again.runs.items()}, tracker.versions(again, name)) == before
    found = again.client.search_runs([again.experiment], f"tags.`psr.profile` = '{profile}'")
    assert len(found) == len(before[0]) == 4
    assert all(len(again.client.get_metric_history(run.info.run_id, "ta_cp")) == 1 for run in found)


def test_new_figures_update_the_run_and_move_the_alias(repo: Path, profile: str) -> None:
    track.run(repo, profile)
    attribute, other = ATTRIBUTES
    psr, const = (f"{profile}/{module_id(attribute, slug)}" for slug in ("a-psr-mse-qr", "s-const-dim-r"))
    assert best(repo, profile, attribute) == psr
    set_figure(repo / "data" / profile, attribute, "s-const-dim-r", 99.0)
    time.sleep(0.01)  # a later value of one step counts by its time, in milliseconds
    track.run(repo, profile)
    opened = store(repo, profile)
    assert opened.runs[const].data.metrics["ta_cp"] == 99.0
    assert len(opened.runs) == 4
    assert best(repo, profile, attribute) == const
    assert best(repo, profile, other) == f"{profile}/{module_id(other, 'a-psr-mse-qr')}"


def test_a_filling_that_was_cut_off_is_finished_and_not_doubled(repo: Path, profile: str) -> None:
    opened = store(repo, profile)
    cell = f"{profile}/{module_id(ATTRIBUTES[0], SLUGS[0])}"
    begun = opened.client.create_run(opened.experiment, tags={tracker.CELL: cell, "psr.profile": profile})
    track.run(repo, profile)
    run = store(repo, profile).runs[cell]
    assert (run.info.run_id, run.info.status) == (begun.info.run_id, "FINISHED")
    assert run.data.metrics["ta_cp"] == 20.0


def test_a_module_that_was_not_evaluated_has_a_run_and_is_never_the_best(repo: Path, profile: str) -> None:
    for slug in SLUGS:
        set_figure(repo / "data" / profile, ATTRIBUTES[0], slug, None)
    track.run(repo, profile)
    opened = store(repo, profile)
    assert len(opened.runs) == 4
    assert opened.client.get_registered_model(track.model_name(profile, ATTRIBUTES[0])).aliases == {}
    assert best(repo, profile, ATTRIBUTES[1]).startswith(profile)


def test_runs_say_which_data_and_which_code_they_come_from(repo: Path, profile: str) -> None:
    (repo / "dvc.lock").write_text(LOCK.format(profile=profile))
    settings = repo / "data" / profile / "settings.yaml"
    settings.write_text("distill: {epochs: 3}\nmodel: {path: here, dtype: float32}")
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(repo), *command], check=True)
    try:
        track.run(repo, profile)
        tags = next(iter(store(repo, profile).runs.values())).data.tags
        head = subprocess.run(["git", "-C", str(repo), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert tags["mlflow.source.git.commit"] == head.stdout.strip()
        assert {name: value for name, value in tags.items() if name.startswith("dvc.")} == {"dvc.distill": "abc.dir"}
        assert json.loads(tags["psr.params"])["distill"] == {"epochs": 3}
        assert tags["psr.model"] == "0123456789abcdef"
        assert track.model_config(repo, profile)["model"] == str(repo / "here")
    finally:
        for path in (repo / "dvc.lock", settings):
            path.unlink()
        shutil.rmtree(repo / ".git")


def test_a_registered_module_answers_chats_and_takes_alpha(
    repo: Path, profile: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch

    from psr.lm.loading import load_model
    from psr.steering.module import SteeringModule, save_module

    lm = load_model(root / "data/testbed/model")
    path = repo / "data" / profile / "distill"
    rows = tables.read_table(path / "modules.parquet", "modules")
    for row in rows:
        push = torch.randn(1, lm.d_model, generator=torch.Generator().manual_seed(1)) * 30
        save_module(SteeringModule(row["id"], "Const", (2,), "R", lm.fingerprint, {"z": push}), path / row["folder"])
    track.run(repo, profile)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repo / '.psr/mlflow.db'}")
    name = f"models:/{track.model_name(profile, ATTRIBUTES[0])}@best"
    model = mlflow.pyfunc.load_model(name, model_config={"model": str(root / "data/testbed/model")})
    chat = [{"role": "user", "content": "Tell me about tea."}]
    plain = model.predict([chat, chat], params={"alpha": 0.0, "temperature": 0.0})
    steered = model.predict([chat], params={"alpha": 1.0, "temperature": 0.0})
    assert len(plain) == 2
    assert plain[0] == plain[1] != steered[0]
    assert model.predict(chat, params={"alpha": 0.0, "temperature": 0.0}) == plain[:1]
    assert model.predict([chat], params={"temperature": 0.0}) == steered  # alpha is 1 unless it is given
    with pytest.raises(PsrError, match="not a list of chats"):
        model.predict(["tea?"])


def test_a_registered_module_refuses_another_model(
    repo: Path, profile: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    track.run(repo, profile)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repo / '.psr/mlflow.db'}")
    with pytest.raises(PsrError, match="fitted on"):
        mlflow.pyfunc.load_model(
            f"models:/{track.model_name(profile, ATTRIBUTES[0])}@best",
            model_config={"model": str(root / "data/testbed/model")},
        )


def test_a_dead_server_is_told_in_one_line_without_its_password(
    repo: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(PsrError, match=r"the tracker could not be filled \(http://127.0.0.1:9\)") as error:
        track.run(repo, profile)
    assert "secret" not in str(error.value)
    assert "Results are complete" in str(error.value)


def test_a_damaged_database_is_told_in_one_line(tmp_path: Path) -> None:
    write_results(tmp_path, adapters=True)
    (tmp_path / ".psr").mkdir(exist_ok=True)
    (tmp_path / ".psr/mlflow.db").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(PsrError, match=r"the tracker could not be filled \(sqlite://.*mlflow.db\)"):
        track.run(tmp_path, "quick")


def test_outputs_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    data = write_results(tmp_path, adapters=True)
    config = data / "distill/modules/persona-gloomy/a-psr-mse-qr/adapter_config.json"
    config.write_text("{")
    with pytest.raises(PsrError, match=r"adapter_config\.json"):
        track.run(tmp_path, "quick")
    (data / "distill/modules.parquet").unlink()
    with pytest.raises(PsrError, match=r"a table is missing \(.*modules.parquet\)"):
        track.run(tmp_path, "quick")


@pytest.mark.parametrize(("profile_", "attribute", "name"), [
    ("quick", "persona/pirate", "quick-persona-pirate"),
    ("full", "ifeval/punctuation:no_comma", "full-ifeval-punctuation-no_comma"),
])  # fmt: skip
def test_models_have_names_that_mlflow_takes(profile_: str, attribute: str, name: str) -> None:
    assert track.model_name(profile_, attribute) == name


@pytest.mark.slow
def test_two_processes_that_fill_a_new_store_at_once_make_no_twins(tmp_path: Path, root: Path) -> None:
    write_results(tmp_path, adapters=True)
    code = f"from tasks.shown import track; track.run({str(tmp_path)!r}, 'quick')"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=root) for _ in range(2)]
    assert [process.wait(300) for process in running] == [0, 0]
    with sqlite3.connect(tmp_path / ".psr/mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (4,)
        assert database.execute("select count(*) from model_versions").fetchone() == (4,)
