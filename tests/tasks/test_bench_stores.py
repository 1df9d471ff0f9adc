"""The bench's figures of memory, on a few real triplets: what 8 bits lose, and many modules in one pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from psr.answers.completions import Ask, complete
from psr.answers.pairs import fit_pairs
from psr.answers.sampling import Sampling
from psr.fitting.loop import normalised, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE
from psr.fitting.stores import EightBit
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from psr.types import Triplet
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.catalogue import load_attributes
from tasks.studies.bench import fitting
from tasks.studies.bench.material import Material

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"pirate": "persona/pirate", "gloomy": "axbench/a-concept"}  # the second stands for a concept


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    lm = open_model(ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1))
    triplets = {}
    for attribute in load_attributes("persona", ROOT / "data/testbed/persona", list(NAMES)):
        pairs = fit_pairs(attribute, 6, 1)
        answers = complete(lm, [Ask(pair, "instructed", 1) for pair in pairs], Sampling(24, 1.0))
        name = NAMES[attribute.key.rpartition("/")[2]]
        triplets[name] = tuple(Triplet(*both, 1.0, 1.0) for both in zip(pairs, answers, strict=True))
    return Material(tmp_path_factory.mktemp("bench"), lm, triplets, {})


def test_the_objective_of_a_module_is_the_share_of_the_unsteered_error_that_it_leaves(material):
    lm, method = material.lm, parse_method("a-psr-mse-qr")
    examples = material.examples(method, 4, "persona/pirate")
    problem = normalised(pose(lm, examples, method, tuple(range(lm.n_layers)), FAST_MSE, None))
    nothing = {name: torch.zeros(lm.n_layers, *shape) for name, shape in problem.form.shapes(lm.d_model).items()}
    idle = SteeringModule(
        id="idle", form=method.form, layers=problem.layers, span="QR", model=lm.fingerprint, tensors=nothing, origin={}
    )
    assert fitting.objective(problem, idle) == pytest.approx(1, abs=1e-5)
    assert fitting.objective(replace(problem, scale=2 * problem.scale), idle) == pytest.approx(0.5, abs=1e-5)


def test_eight_bits_are_a_quarter_of_the_bytes_and_lose_little(material, monkeypatch):
    seen, real = [], fitting.fit

    def watched(*given, targets, **more):
        seen.append(type(targets))
        return real(*given, targets=targets, **more)

    monkeypatch.setattr(fitting, "fit", watched)
    monkeypatch.setattr(fitting, "TRIPLETS", 4)
    (figure,) = fitting.eight_bits(replace(material, repeats=2))
    assert (figure.name, figure.ratio.n, figure.row()["goal"]) == ("store-8-bit", 2, None)
    assert seen == [EightBit, Targets] * 2
    assert 0.9 < figure.ratio.median < 1.1
    assert figure.ratio.median != 1
    assert figure.note.startswith("0.258 of the bytes")  # d + 4 bytes instead of 4 · d, d = 128


def test_many_modules_are_the_concepts_under_a_seed_each(material, monkeypatch):
    given = {}
    real = fitting.fit_many

    def watched(lm, examples, *more, seeds, **others):
        given.update({name: (id(examples[name]), seeds[name]) for name in examples})
        return real(lm, examples, *more, seeds=seeds, **others)

    monkeypatch.setattr(fitting, "fit_many", watched)
    for name, value in (("MODULES", 20), ("EPOCHS", 1), ("TRIPLETS_OF_SET", 2), ("SETS", 3)):
        monkeypatch.setattr(fitting, name, value)
    (figure,) = fitting.many_modules(material)
    assert figure.name == "fit-500"
    assert "GB resident after its steps" in figure.note
    assert len(given) == 20
    assert sorted(seed for _, seed in given.values()) == list(range(20))
    assert len({examples for examples, _ in given.values()}) == 3
    assert all(name.startswith("axbench/") for name in fitting.sets(material, "axbench/"))
