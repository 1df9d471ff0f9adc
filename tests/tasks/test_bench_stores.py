"""The bench's figures of memory, on a few real triplets: what 8 bits lose, and many modules in one pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from psr.fitting.loop import normalised, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE
from psr.fitting.stores import EightBit
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.scratch import Scratch
from tasks.studies.ablation.material import subjects, wanted_attributes
from tasks.studies.bench import joint, stores
from tasks.studies.bench.material import Material
from tests.tasks.test_ablation_study import TOLD

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"pirate": "persona/pirate", "gloomy": "axbench/a-concept"}  # the second stands for a concept


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("bench")
    model = ModelPlace(str(ROOT / "data/testbed/model"), "float32", "cpu", 1)
    told = {**TOLD, "model": {"path": model.path}}
    found = subjects(folder / "none", told, wanted_attributes(told, tuple(NAMES)), model, Scratch(folder / "scratch"))
    return Material(
        folder, open_model(model), dict(zip(NAMES.values(), (one.triplets for one in found), strict=True)), {}
    )


def test_the_objective_of_a_module_is_the_share_of_the_unsteered_error_that_it_leaves(material):
    lm, method = material.lm, parse_method("a-psr-mse-qr")
    examples = material.examples(method, 4, "persona/pirate")
    problem = normalised(pose(lm, examples, method, tuple(range(lm.n_layers)), FAST_MSE, None))
    nothing = {name: torch.zeros(lm.n_layers, *shape) for name, shape in problem.form.shapes(lm.d_model).items()}
    idle = SteeringModule(
        id="idle", form=method.form, layers=problem.layers, span="QR", model=lm.fingerprint, tensors=nothing, origin={}
    )
    assert stores.objective(problem, idle) == pytest.approx(1, abs=1e-5)
    assert stores.objective(replace(problem, scale=2 * problem.scale), idle) == pytest.approx(0.5, abs=1e-5)


def test_eight_bits_are_a_quarter_of_the_bytes_and_lose_little(material, monkeypatch):
    import psr.fitting.loop

    seen, real = [], psr.fitting.loop.fit

    def watched(*given, targets, **more):
        seen.append(type(targets))
        return real(*given, targets=targets, **more)

    monkeypatch.setattr(psr.fitting.loop, "fit", watched)
    monkeypatch.setattr(stores, "TRIPLETS", 4)
    (figure,) = stores.eight_bits(replace(material, repeats=2))
    assert (figure.name, figure.ratio.n, figure.goal) == ("store-8-bit", 2, None)
    assert seen == [EightBit, Targets] * 2
    assert 0.9 < figure.ratio.median < 1.1
    assert figure.ratio.median != 1
    assert figure.note.startswith("0.258 of the bytes")  # d + 4 bytes instead of 4 · d, d = 128


def test_many_modules_are_the_concepts_under_a_seed_each(material, monkeypatch):
    import psr.fitting.joint

    given = {}
    real = psr.fitting.joint.fit_many

    def watched(lm, examples, *more, seeds, **others):
        given.update({name: (id(examples[name]), seeds[name]) for name in examples})
        return real(lm, examples, *more, seeds=seeds, **others)

    monkeypatch.setattr(psr.fitting.joint, "fit_many", watched)
    for name, value in (("MODULES", 20), ("EPOCHS", 1), ("TRIPLETS", 2), ("ATTRIBUTES", 3)):
        monkeypatch.setattr(joint, name, value)
    (figure,) = joint.many_modules(material)
    assert figure.name == "fit-500"
    assert "GB resident after its steps" in figure.note
    assert len(given) == 20
    assert sorted(seed for _, seed in given.values()) == list(range(20))
    assert len({examples for examples, _ in given.values()}) == 3
    assert all(
        key.startswith("axbench/")
        for key in (
            name.rpartition(" ")[0] for name in joint.attributes(material, parse_method("a-psr-mse-qr"), "axbench/")
        )
    )
