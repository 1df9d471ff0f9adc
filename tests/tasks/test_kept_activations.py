"""Less may be kept of the activations, down to nothing: the modules are the same, or as close as 8 bits allow."""

from __future__ import annotations

import json
import resource
import shutil
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flows.params import Profile
from flows.storage import settled
from psr.errors import PsrError
from tasks.engine.cells import HOME, Cells, sizes
from tasks.engine.context import StepContext
from tasks.engine.disk import disk_error
from tasks.engine.runners import serial
from tasks.steps import distill
from tasks.steps import extract as extract_step

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("complete", "select", "extract", "distill")
SETTINGS: dict[str, Any] = {
    "model": {"path": str(ROOT / "data/testbed/model"), "threads": 1},
    "benchmarks": [{"name": "persona", "path": str(ROOT / "data/testbed/persona"), "attributes": ["pirate", "gloomy"]}],
    "judge": {"name": "testbed"},
    "methods": ["s-const-dim-r", "s-psr-mse-qr", "a-psr-mse-qr"],
    "seeds": [5],
    "sampling": {"temperature": 1.0, "max_new_tokens": 64},
    "complete": {"questions": 8, "instructions": 1, "samples": 1, "seed": 1, "batch_size": 64},
    "select": {"min_trait": 0.5, "min_coherence": 0.5, "limit": 6},
    "extract": {"dtype": "float32", "shard_mb": 0.1, "batch_size": 8},
    "distill": {"preset": "fast", "epochs": 6, "batch_size": 3, "lr": 0.01, "layer": 3},
    "search": {
        "samples": 1,
        "alphas": [0, 1],
        "alpha_max": 2,
        "refine": [1],
        "resamples": 20,
        "seed": 2,
        "batch_size": 64,
    },
    "steer": {"samples": 1, "seed": 3, "batch_size": 64, "strengths": 1},
    "faithfulness": {"questions": 2, "triplets": 4, "seed": 90, "resamples": 20, "strengths": 1, "batch_size": 8},
    "results": {"resamples": 30, "seed": 4},
    "report": {"title": "kept"},
}


def run(root: Path, steps: tuple[str, ...] = STEPS, **extract: Any) -> Path:
    """The real flows, one after the other, with what is kept chosen as a plan does."""
    profile = settled(root, Profile.model_validate({**SETTINGS, "extract": {**SETTINGS["extract"], **extract}}))
    for name in steps:
        body, out = getattr(import_module(f"flows.{name}"), name), root / "data/kept" / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        deps = tuple(f"data/kept/{step}" for step in STEPS)
        context = StepContext(root, "kept", name, out, deps, Cells(root / HOME, "code"), serial)
        body(context, **{section: getattr(profile, section) for section in list(signature(body).parameters)[1:]})
    return root / "data/kept"


def modules(data: Path) -> dict[str, dict[str, torch.Tensor]]:
    """folder -> tensors of every module."""
    found = sorted((data / "distill/modules").rglob("*.safetensors"))
    return {file.parent.relative_to(data).as_posix(): load_file(file) for file in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, torch.Tensor]]]:
    """A folder with the answers and triplets, and the modules fitted to all activations."""
    root = tmp_path_factory.mktemp("kept")
    fitted = modules(run(root))
    assert len(fitted) == 6
    return root, fitted


@pytest.fixture
def root(whole: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy without its cells of modules, so that each is fitted again."""
    shutil.copytree(whole[0], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / HOME / "modules")
    return tmp_path / "copy"


def kept(data: Path) -> tuple[dict[str, Any], int]:
    """The index, and the bytes beside it."""
    files = [file for file in (data / "extract").iterdir() if file.name != "index.json"]
    return json.loads((data / "extract/index.json").read_text()), sum(file.stat().st_size for file in files)


def equal(some: dict[str, dict[str, torch.Tensor]], others: dict[str, dict[str, torch.Tensor]]) -> bool:
    assert some.keys() == others.keys()
    return all(torch.equal(value, others[name][key]) for name, one in some.items() for key, value in one.items())


def test_the_layers_that_methods_read_give_the_same_modules_in_less_room(whole, root):
    _, everything = kept(root / "data/kept")
    data = run(root, ("extract", "distill"), keep="layers")
    index, less = kept(data)
    assert equal(modules(data), whole[1])
    told = sum(entry["tokens"] * len(entry["layers"]) * 128 * 4 for entry in index["entries"])
    assert told < less < told + 1000 * len(list((data / "extract").iterdir()))  # of headers and lengths
    assert less < 0.9 * everything
    layers = {entry["name"].rpartition("-")[2]: entry["layers"] for entry in index["entries"]}
    assert layers == {"instructed": [0, 1, 2, 3, 4, 5], "plain": [3]}


def test_a_module_fitted_to_these_layers_is_not_fitted_again_where_all_are_kept(root):
    run(root, ("extract", "distill"), keep="layers")
    before = sizes(root)
    run(root, ("extract", "distill"), keep="full")
    assert sizes(root) == before


def test_recomputed_in_distill_the_modules_are_those_of_the_cache(whole, root):
    data = run(root, ("extract", "distill"), keep="none")
    assert kept(data)[1] == 0
    for name, tensors in modules(data).items():
        for key, value in tensors.items():
            torch.testing.assert_close(value, whole[1][name][key], rtol=1e-3, atol=1e-4)


def test_recomputed_at_each_step_too_where_memory_holds_no_recording(whole, root, monkeypatch):
    monkeypatch.setattr(distill, "BUDGET", 1000)
    monkeypatch.setattr(distill.joint_groups, "__defaults__", (1000,))
    record = distill._run

    def of_one_layer(run, layers, *more):  # a difference of means holds a layer; gradients hold none
        assert len(layers) == 1
        return record(run, layers, *more)

    monkeypatch.setattr(distill, "_run", of_one_layer)
    data = run(root, ("extract", "distill"), keep="none")
    for name, tensors in modules(data).items():
        for key, value in tensors.items():
            torch.testing.assert_close(value, whole[1][name][key], rtol=1e-3, atol=1e-4)


def test_in_8_bits_modules_are_close_and_say_so(whole, root):
    _, everything = kept(root / "data/kept")
    data = run(root, ("extract", "distill"), keep="8bit")
    index, less = kept(data)
    assert index["keep"] == "8bit"
    assert less < 0.25 * everything
    for name, tensors in modules(data).items():
        for key, value in tensors.items():
            near = torch.cosine_similarity(value.flatten(), whole[1][name][key].flatten(), dim=0)
            assert near > 0.99, (name, key, near)
        origin = json.loads((data / name / "adapter_config.json").read_text())["origin"]
        assert origin["targets"] == "8bit"
    assert not equal(modules(data), whole[1])


def test_a_side_that_no_method_reads_is_not_recorded(root, monkeypatch):
    monkeypatch.setitem(SETTINGS, "methods", ["s-psr-mse-qr"])
    index, _ = kept(run(root, ("extract", "distill"), keep="layers"))
    assert {(entry["name"].rpartition("-")[2], *entry["layers"]) for entry in index["entries"]} == {
        ("instructed", 3, 4, 5)
    }
    monkeypatch.setitem(SETTINGS, "methods", ["s-psr-ll-qr"])
    index, size = kept(run(root, ("extract", "distill"), keep="8bit"))
    assert (index["entries"], size) == ([], 0)


def test_a_long_recording_is_made_in_parts_and_is_the_same_up_to_rounding(whole, root, monkeypatch):
    monkeypatch.setattr(extract_step, "HELD", 200_000)
    shutil.rmtree(root / HOME / "extract")
    data = run(root, ("extract", "distill"))
    for name, tensors in modules(data).items():
        for key, value in tensors.items():
            torch.testing.assert_close(value, whole[1][name][key], rtol=1e-3, atol=1e-4)


def test_a_disk_without_room_is_refused_before_anything_is_recorded(root, monkeypatch):
    shutil.rmtree(root / HOME / "extract")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(
        PsrError, match=r"no room for the activations .*expected \d+\.\d MB free, got 1\.0 MB.*extract.budget"
    ):
        run(root, ("extract",))
    assert "extract" not in sizes(root)
    run(root, ("extract",), keep="none")


def test_what_is_recorded_already_needs_no_room(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    run(root, ("extract",))


def test_a_disk_that_fills_while_it_is_written_keeps_what_was_finished(whole, root):
    shutil.rmtree(root / HOME / "extract")
    run(root, ("extract",), keep="none")
    before = sizes(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(Exception, match="File too large") as raised:
            run(root, ("extract",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "a file may not grow that large" in str(disk_error(raised.value))
    assert sizes(root) == before
    assert not list((root / HOME / "extract").glob(".aside-*"))
    assert equal(modules(run(root, ("extract", "distill"))), whole[1])
