"""The tracker: a run a module and evaluation that is written once, models that load and steer, and clear words when it fails."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from psr.errors import PsrError
from psr.types import short_hash
from tasks.engine.files import write_json
from tasks.engine.history import Run as RunRecord
from tasks.engine.history import StepRecord
from tasks.shown import registry, track, tracker
from tests.results_folder import ATTRIBUTES, SLUGS, module_id, write_results
from tests.tracked import SETTINGS, dumped, git, history, runs, set_figure, write_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

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
ALPHAS = (0.0, 1.0, 2.0, 4.0)  # of the curves in tests.results_folder


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the whole file (making one takes seconds); every test fills a profile of its own."""
    folder = tmp_path_factory.mktemp("repo")
    git(folder, "init", "-q")
    for name, value in (("name", "Ann"), ("email", "ann@example.org")):
        git(folder, "config", f"user.{name}", value)
    (folder / ".gitignore").write_text("/.psr\n")
    (folder / "params.yaml").write_text("defaults: {}\n")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    """Commit what git tracks here; returns the commit."""
    git(folder, "add", ".gitignore", "params.yaml")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def profile(repo: Path, request: pytest.FixtureRequest) -> str:
    name = short_hash(request.node.name)
    write_results(repo, name, adapters=True)
    write_settings(repo, name)
    return name


def client(repo: Path) -> "MlflowClient":
    with tracker.opened(f"sqlite:///{repo / '.psr/mlflow.db'}", None) as opened:
        return opened.client


def run_of(repo: Path, profile: str, attribute: str, slug: str) -> "Run":
    """The one run of this module."""
    (run,) = [one for one in runs(client(repo), profile) if one.data.tags["psr.module"] == module_id(attribute, slug)]
    return run


def means(repo: Path, profile: str, attribute: str) -> str:
    """The method of the version that the alias `best` means."""
    version = client(repo).get_model_version_by_alias(track.model_name(profile, attribute), "best")
    return str(client(repo).get_run(version.run_id).data.params["method"])


def test_every_module_gets_a_run_with_its_parameters_curves_and_figures(repo: Path, profile: str) -> None:
    assert track.run(repo, profile) == 4
    assert sorted(one.data.tags["psr.module"] for one in runs(client(repo), profile)) == sorted(
        module_id(attribute, slug) for attribute in ATTRIBUTES for slug in SLUGS
    )
    run = run_of(repo, profile, "persona/pirate", "a-psr-mse-qr")
    assert (run.info.run_name, run.info.status) == ("persona/pirate A-PSR MSE·QR", "FINISHED")
    said = {"method": "a-psr-mse-qr", "scope": "A", "fit.lr": "0.01", "triplets": "2"}
    used = {"distill.epochs": "3", "distill.lr": "None", "search.questions": "4", "model.path": "here"}
    assert run.data.params | said | used == run.data.params
    metrics = [
        run.data.metrics[name] for name in ("ta_cp", "ta_cp_low", "ta_cp_alpha", "ta_c80", "ta_c80_coherence", "n")
    ]
    assert metrics == [93.0, 90.0, 1.0, 94.0, 81.0, 2.0]
    assert history(client(repo), run, "loss") == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert history(client(repo), run, "alpha") == [(int(1000 * alpha), alpha) for alpha in ALPHAS]
    assert history(client(repo), run, "trait") == [(int(1000 * alpha), 93.0 * alpha / 4) for alpha in ALPHAS]
    assert history(client(repo), run, "coherence") == [(int(1000 * alpha), 98.0 - 10 * alpha) for alpha in ALPHAS]


def test_a_second_run_changes_nothing_at_all(repo: Path, profile: str) -> None:
    track.run(repo, profile)
    before = dumped(client(repo), profile)
    track.run(repo, profile)
    assert dumped(client(repo), profile) == before
    assert (len(before["runs"]), len(before["models"])) == (4 + 1, 2)  # with their parent


def test_other_figures_are_other_runs_beside_the_old_ones_and_move_the_alias(repo: Path, profile: str) -> None:
    track.run(repo, profile)
    attribute, other = ATTRIBUTES
    before = dumped(client(repo), profile)
    assert means(repo, profile, attribute) == "a-psr-mse-qr"
    set_figure(repo / "data" / profile, attribute, "s-const-dim-r", 99.0)
    track.run(repo, profile)
    after = dumped(client(repo), profile)
    assert {key: after["runs"][key] for key in before["runs"]} == before["runs"]
    both = [
        one
        for one in runs(client(repo), profile)
        if one.data.tags["psr.module"] == module_id(attribute, "s-const-dim-r")
    ]
    assert [one.data.metrics["ta_cp"] for one in both] == [20.0, 99.0]
    assert len(runs(client(repo), profile)) == 5
    assert means(repo, profile, attribute) == "s-const-dim-r"
    assert means(repo, profile, other) == "a-psr-mse-qr"


def test_another_setting_of_the_evaluation_is_another_run_even_where_all_figures_are_equal(
    repo: Path, profile: str
) -> None:
    track.run(repo, profile)
    write_settings(repo, profile, search={"questions": 2, "batch_size": 8})
    track.run(repo, profile)
    assert sorted(one.data.params["search.questions"] for one in runs(client(repo), profile)) == ["2"] * 4 + ["4"] * 4
    assert len(runs(client(repo), profile, "reproduction")) == 2


def test_a_setting_that_decides_no_figure_makes_no_other_run(repo: Path, profile: str) -> None:
    track.run(repo, profile)
    more = {"name": "persona", "path": "elsewhere", "attributes": ["gloomy", "pirate", "hedging"]}
    write_settings(repo, profile, search={"questions": 4, "batch_size": 64}, benchmarks=[more])
    track.run(repo, profile)
    assert len(runs(client(repo), profile)) == 4


def test_modules_are_nested_in_their_reproduction(repo: Path, profile: str) -> None:
    report = repo / "data" / profile / "report/index.html"
    report.parent.mkdir()
    report.write_text("<p>all of it</p>")
    track.run(repo, profile)
    (parent,) = runs(client(repo), profile, "reproduction")
    assert {one.data.tags["mlflow.parentRunId"] for one in runs(client(repo), profile)} == {parent.info.run_id}
    assert (parent.info.run_name, parent.info.status) == (f"reproduction of {profile}", "FINISHED")
    values = {name: parent.data.metrics[f"persona ta_cp {name}"] for name in ("plain", "prompt", "a-psr-mse-qr")}
    assert values == {"plain": 1.0, "prompt": 95.0, "a-psr-mse-qr": 93.0}
    artifacts = Path(client(repo).download_artifacts(parent.info.run_id, ""))
    assert (artifacts / "index.html").read_text() == "<p>all of it</p>"
    assert yaml.safe_load((artifacts / "settings.yaml").read_text()) == SETTINGS
    ids = {one.data.tags["psr.module"]: one.info.run_id for one in runs(client(repo), profile)}
    assert json.loads((artifacts / "modules.json").read_text()) == ids


@pytest.mark.parametrize(
    ("at", "call"), [("log_batch", 3), ("set_terminated", 2), ("create_model_version", 2), ("log_artifacts", 2)]
)
def test_a_filling_that_was_cut_off_is_finished_and_not_doubled(
    repo: Path, profile: str, at: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    calls: list[str] = []
    whole: Callable[..., object] = getattr(MlflowClient, at)

    def cut(self: MlflowClient, *args: object, **kwargs: object) -> object:
        answer = whole(self, *args, **kwargs)
        calls.append(at)
        if len(calls) == call:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, at, cut)
        with pytest.raises(KeyboardInterrupt):
            track.run(repo, profile)
    track.run(repo, profile)
    assert [one.info.status for one in runs(client(repo), profile)] == ["FINISHED"] * 4
    assert [one.info.status for one in runs(client(repo), profile, "reproduction")] == ["FINISHED"]
    run = run_of(repo, profile, ATTRIBUTES[0], "a-psr-mse-qr")
    assert history(client(repo), run, "loss") == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    name = track.model_name(profile, ATTRIBUTES[0])
    assert len(client(repo).search_model_versions(f"name = '{name}'")) == 2


def test_a_module_that_was_not_evaluated_has_a_run_and_is_never_the_best(repo: Path, profile: str) -> None:
    for slug in SLUGS:
        set_figure(repo / "data" / profile, ATTRIBUTES[0], slug, None)
    track.run(repo, profile)
    assert len(runs(client(repo), profile)) == 4
    assert client(repo).get_registered_model(track.model_name(profile, ATTRIBUTES[0])).aliases == {}
    assert means(repo, profile, ATTRIBUTES[1]) == "a-psr-mse-qr"


def test_runs_say_which_data_and_which_code_they_come_from(repo: Path, profile: str) -> None:
    (repo / "dvc.lock").write_text(LOCK.format(profile=profile))
    head = commit(repo)
    try:
        track.run(repo, profile)
    finally:
        (repo / "dvc.lock").unlink()
    run = run_of(repo, profile, ATTRIBUTES[0], SLUGS[0])
    tags = run.data.tags
    assert (tags["mlflow.source.git.commit"], tags["mlflow.user"], tags["psr.dirty"]) == (head, "Ann", "false")
    assert {name: value for name, value in tags.items() if name.startswith("dvc.")} == {"dvc.distill": "abc.dir"}
    assert tags["psr.model"] == "0123456789abcdef"
    (data,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert (data.name, data.digest) == ("persona", "b" * 32 + ".dir")
    assert json.loads(data.source) == {"uri": "data/testbed/persona"}


def test_what_was_changed_and_not_committed_is_said_and_kept_within_bounds(repo: Path, profile: str) -> None:
    commit(repo)
    params = repo / "params.yaml"
    whole = params.read_text()
    params.write_text("defaults: {x: 1}\n" + "# a long line of comments\n" * 20_000)
    try:
        track.run(repo, profile)
    finally:
        params.write_text(whole)
    run, (parent,) = run_of(repo, profile, ATTRIBUTES[0], SLUGS[0]), runs(client(repo), profile, "reproduction")
    assert (run.data.tags["psr.dirty"], run.data.tags["psr.changed"]) == ("true", "params.yaml")
    text = Path(client(repo).download_artifacts(parent.info.run_id, "changes.diff")).read_text()
    assert "-defaults: {}\n+defaults: {x: 1}\n" in text
    assert len(text) < 210_000
    assert text.endswith("more characters\n")


def test_results_are_of_whoever_made_them_and_of_when_that_was(repo: Path, profile: str) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    outs = {step: {f"data/{profile}/{step}": f"{step}.dir"} for step in ("distill", "results")}
    steps = {
        "complete": StepRecord(end="ran", seconds=5, outputs={"data/x": "other"}),
        "distill": StepRecord(end="ran", seconds=60, outputs=outs["distill"]),
        "results": StepRecord(end="ran", seconds=2.5, outputs=outs["results"]),
    }
    made = RunRecord(
        id="12345678", profile=profile, who="Zoe", began=began, ended=began, outcome="completed", commit="c" * 40,
        changed=("psr/x.py",), host="", packages={}, settings={}, steps=steps,
    )  # fmt: skip
    write_json(repo / made.file, made.model_dump(mode="json"))
    lock = {
        f"{step}@{profile}": {"outs": [{"path": p, "md5": h} for p, h in own.items()]} for step, own in outs.items()
    }
    (repo / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    try:
        track.run(repo, profile)
    finally:
        (repo / "dvc.lock").unlink()
    run, (parent,) = run_of(repo, profile, ATTRIBUTES[0], SLUGS[0]), runs(client(repo), profile, "reproduction")
    for one in (run, parent):
        times = [(at / 1000) - began.timestamp() for at in (one.info.start_time, one.info.end_time)]
        assert times == [5, 67.5]
        tags = {
            "mlflow.user": "Zoe",
            "mlflow.source.git.commit": "c" * 40,
            "psr.dirty": "true",
            "psr.changed": "psr/x.py",
        }
        assert one.data.tags | tags == one.data.tags
    assert parent.data.metrics["seconds distill"] == 60
    assert [file.path for file in client(repo).list_artifacts(parent.info.run_id)] == ["modules.json", "settings.yaml"]


def version(number: int, figure: float | None, sense: float = 97.0) -> object:
    """A version as the registry has it."""
    from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

    tags = (
        {"psr.evaluation": "e1", "psr.figure": str(figure), "psr.coherence": str(sense)} if figure is not None else {}
    )
    return ModelVersion("m", str(number), 0, tags=[ModelVersionTag(*one) for one in tags.items()])


@pytest.mark.parametrize(("candidates", "number", "reason"), [
    ([(1, 20.0), (2, 93.0), (3, None)], 2, "main figure 93.0, the highest of 2 under evaluation e1; next version 1 with 20.0"),
    ([(1, -5.0)], 1, "main figure -5.0, the highest of 1 under evaluation e1"),
    ([(1, 93.0, 80.0), (2, 93.0, 90.0)], 2, "main figure 93.0, the highest of 2 under evaluation e1; next version 1 with 93.0"),
    ([(10, 93.0), (9, 93.0)], 9, "main figure 93.0, the highest of 2 under evaluation e1; next version 10 with 93.0"),
])  # fmt: skip
def test_the_best_has_the_highest_figure_then_more_sense_then_came_first(
    candidates: list[tuple[float, ...]], number: int, reason: str
) -> None:
    versions = [version(*one) for one in candidates]  # type: ignore[arg-type]
    best = registry.chosen(versions)  # type: ignore[arg-type]
    assert best is not None
    assert int(best.version) == number
    assert registry.why(versions) == reason  # type: ignore[arg-type]
    assert registry.chosen([version(1, None)]) is None  # type: ignore[list-item]


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
        assert database.execute("select count(*) from runs").fetchone() == (5,)  # and their parent
        assert database.execute("select count(*) from model_versions").fetchone() == (4,)
