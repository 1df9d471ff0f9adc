"""Registered modules: weights inside, the language model found by its fingerprint, a signature, requirements, chats over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import psr
from psr.errors import PsrError
from tasks.shown import registry, track
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, write_results

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's own, on import

CHAT = [{"role": "user", "content": "Tell me about tea."}]
GREEDY = {"temperature": 0.0, "max_new_tokens": 16}
BEST = f"models:/quick-{ATTRIBUTES[0].replace('/', '-')}@best"


@pytest.fixture(scope="module")
def lm(root: Path) -> psr.LanguageModel:
    return psr.load_model(root / "data/testbed/model")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, lm: psr.LanguageModel, root: Path) -> Path:
    """A repository whose modules push the testbed's model hard. They were tracked with the model in models/base, as a clone has
    it, and that folder is gone; nor are the modules where they were."""
    import torch

    folder = tmp_path_factory.mktemp("tracked")
    data = write_results(folder, adapters=True)
    shutil.copytree(root / "data/testbed/model", folder / "models/base")
    settings = {"model": {"path": "models/base", "dtype": "float32"}}
    (data / "settings.yaml").write_text(yaml.safe_dump(settings))
    for row in tables.read_table(data / "distill/modules.parquet", "modules"):
        push = torch.randn(1, lm.d_model, generator=torch.Generator().manual_seed(1)) * 30
        module = psr.SteeringModule(row["id"], "Const", (2,), "R", lm.fingerprint, {"z": push})
        psr.save_module(module, data / "distill" / row["folder"])
    module = psr.load_module(data / "distill" / row["folder"])
    psr.save_module(module, folder / "same")
    track.run(folder, "quick")
    shutil.rmtree(folder / "models")
    shutil.rmtree(data)
    return folder


@pytest.fixture(autouse=True)
def _store(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked / '.psr/mlflow.db'}")


def loaded(**config: str) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(BEST, model_config=config)


def by_psr(lm: psr.LanguageModel, module: psr.SteeringModule, alpha: float) -> str:
    """The answer of the steered model by transformers' own generation."""
    chat = lm.tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with psr.steer(lm.model, module, alpha=alpha, tokenizer=lm.tokenizer):
        ids = lm.model.generate(**chat, max_new_tokens=16, do_sample=False)[0, chat["input_ids"].shape[1] :]
    return str(lm.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def test_it_answers_chats_as_the_library_does(tracked: Path, lm: psr.LanguageModel, root: Path) -> None:
    import mlflow

    model = loaded(model=str(root / "data/testbed/model"))
    plain = model.predict([{"messages": CHAT}] * 2, params={**GREEDY, "alpha": 0.0})
    steered = model.predict({"messages": CHAT}, params={**GREEDY, "alpha": 1.0})
    assert len(plain) == 2
    assert plain[0] == plain[1] != steered[0]
    module = psr.load_module(tracked / "same")
    assert [plain[0].strip(), steered[0].strip()] == [by_psr(lm, module, alpha) for alpha in (0.0, 1.0)]
    assert model.predict({"messages": CHAT}, params={**GREEDY, "alpha": 0.0}) == plain[:1]
    assert model.predict({"messages": CHAT}, params=GREEDY) == steered  # alpha is 1 unless it is given
    for wrong in (["tea?"], {"messages": "tea?"}, {"messages": [{"role": "user"}]}):
        with pytest.raises(mlflow.MlflowException, match="messages"):
            model.predict(wrong)
    with pytest.raises(mlflow.MlflowException, match="user turn"):
        model.predict({"messages": [{"role": "assistant", "content": "Tea."}]})


def test_it_says_what_goes_in_what_comes_out_and_what_it_needs() -> None:
    import mlflow

    info = mlflow.models.get_model_info(BEST)
    turns = "Array({content: string (required), role: string (required)})"
    assert str(info.signature.inputs) == f"['messages': {turns} (required)]"
    assert [one.type.name for one in info.signature.outputs.inputs] == ["string"]
    assert {one.name for one in info.signature.params.params} == {"alpha", "seed", "max_new_tokens", "temperature"}
    pins = (Path(mlflow.artifacts.download_artifacts(BEST)) / "requirements.txt").read_text().splitlines()
    assert f"transformers=={version('transformers')}" in pins
    assert f"torch=={version('torch').partition('+')[0]}" in pins
    assert {pin.partition("==")[0] for pin in pins} == {"mlflow", *registry.LOADED_WITH}


def test_what_it_needs_is_what_the_package_depends_on_less_what_is_for_terminals(root: Path) -> None:
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0] for line in project["dependencies"]}
    assert set(registry.LOADED_WITH) == {project["name"], *names} - {"rich", "typer"}


def test_the_language_model_is_found_where_a_clone_has_it(
    tracked: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "data/testbed/model", tmp_path / "models/base")
    monkeypatch.chdir(tmp_path)
    assert loaded().predict({"messages": CHAT}, params=GREEDY)


def test_the_environment_may_say_where_it_lies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.dumps({"model": str(root / "data/testbed/model")})
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", config)
    assert loaded().predict({"messages": CHAT}, params=GREEDY)


def test_a_model_of_the_hub_is_asked_for_by_its_commit(
    lm: psr.LanguageModel, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import torch

    from tasks.shown import pyfunc_psr

    asked: list[tuple[str, object]] = []

    def load_model(path: str, *, revision: str | None = None, **_: object) -> psr.LanguageModel:
        asked.append((path, revision))
        return lm

    monkeypatch.setattr(psr, "load_model", load_model)
    module = psr.SteeringModule("m", "Const", (2,), "R", lm.fingerprint, {"z": torch.zeros(1, lm.d_model)})
    module = replace(module, base=psr.ModelName("owner/model", "a" * 40))
    config = {
        "model": None,
        "revision": None,
        "dtype": "float32",
        "device": "auto",
        "template": {},
        "paths": [str(root)],
    }
    assert pyfunc_psr.language_model(module, config) is lm
    assert asked == [("owner/model", "a" * 40)]


def test_another_model_in_its_place_is_refused(
    lm: psr.LanguageModel, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "data/testbed/model", tmp_path / "models/base")
    template = tmp_path / "models/base/chat_template.jinja"
    template.write_text(template.read_text() + " ")
    monkeypatch.chdir(tmp_path)
    for config in ({}, {"model": "models/base"}):
        with pytest.raises(PsrError, match=f"with fingerprint {lm.fingerprint}, got fingerprint .* in models/base"):
            loaded(**config)


def test_without_the_language_model_one_line_says_what_to_pass(
    lm: psr.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PsrError, match=f"expected a model with fingerprint {lm.fingerprint}, got nothing in models/base"
    ) as e:
        loaded()
    assert "MLFLOW_PYFUNC_INFERENCE_CONFIG" in str(e.value)
    assert "\n" not in str(e.value)


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[str]:
    """`mlflow models serve` of the best, from `folder`; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = [sys.executable, "-m", "mlflow", "models", "serve", "-m", BEST, "--env-manager", "local", "--port", port]
    environment = {**os.environ, **variables, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(program, cwd=folder, env=environment, start_new_session=True) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 180
            while not _answers(f"{address}/ping"):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, 15)


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


@pytest.mark.slow
def test_it_is_served_and_answers_chats_over_http_as_the_library_does(
    tracked: Path, lm: psr.LanguageModel, root: Path, tmp_path: Path
) -> None:
    config = json.dumps({"model": str(root / "data/testbed/model")})
    with served(tmp_path, MLFLOW_PYFUNC_INFERENCE_CONFIG=config, PYTHONPATH=str(root)) as address:
        asked = {"messages": CHAT, "alpha": 1.0, **GREEDY}
        one = requests.post(f"{address}/invocations", json=asked, timeout=60)
        many = {"dataframe_records": [{"messages": CHAT}] * 2, "params": {**GREEDY, "alpha": 0.0}}
        two = requests.post(f"{address}/invocations", json=many, timeout=60)
        wrong = requests.post(f"{address}/invocations", json={"messages": "tea?"}, timeout=60)
        unanswerable = {"messages": [{"role": "assistant", "content": "Tea."}]}
        refused = requests.post(f"{address}/invocations", json=unanswerable, timeout=60)
    module = psr.load_module(tracked / "same")
    assert [text.strip() for text in one.json()] == [by_psr(lm, module, 1.0)]
    assert [text.strip() for text in two.json()["predictions"]] == [by_psr(lm, module, 0.0)] * 2
    assert (wrong.status_code, refused.status_code) == (400, 400)
    assert "user turn" in refused.json()["message"]
    assert "Traceback" not in refused.text
