"""A module of any method is named, hashed and stored by its row; what a fit reads and sets is the method's to say."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting.methods.named import method_named
from psr.fitting.presets import FAST_MSE
from psr.judges.likelihood import LikelihoodJudge
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from psr.types import short_hash
from tasks.figures.entries import module_facts
from tasks.steps import distill
from tasks.steps.distill import Fit, fit_settings, joint_groups
from tasks.tables.parquet import read_table
from tests.psr.toy import D, toy

TWICE, L1 = "tests.psr.own_methods:TWICE", "tests.psr.own_methods:ABSOLUTE_PSR"
MATERIAL = SimpleNamespace(attribute="persona/pirate", triplets=[SimpleNamespace(id="t1")], unchanged=[], lm=toy())
CHANGES = {"preset": "fast", "epochs": 3, "batch_size": None, "lr": None, "seed": 5}


class Held(Targets):
    """A recording that is whatever is asked of it."""

    def last(self, lengths, span):
        return self


def fit_of(text: str, code: str = "") -> Fit:
    plug = method_named(text)
    return Fit(MATERIAL, plug.method, (1,), fit_settings(plug, CHANGES, {"regulariser": 0.2}), 5, code)


def test_an_id_of_psrs_own_is_what_it_always_was_and_that_of_others_knows_their_code():
    settings = asdict(fit_of("s-psr-mse-r").settings)
    assert settings == asdict(FAST_MSE) | {"epochs": 3, "seed": 5, "regulariser": 0.2}
    assert settings.pop("keep") == 0  # younger than the ids
    expected = short_hash("module", 1, "persona/pirate", "s-psr-mse-r", (1,), settings, ["t1"], "toy")
    assert fit_of("s-psr-mse-r").id == expected
    assert len({fit_of(TWICE, code).id for code in ("", "1", "2")}) == 3


def test_a_module_of_ones_own_method_is_stored_and_shown_by_its_row(tmp_path):
    fit = fit_of(TWICE)
    module = SteeringModule(fit.id, "Const", (1,), "R", "toy", {"z": torch.ones(1, D)}, fit.origin)
    fit.write(tmp_path, module, ())
    [row] = read_table(tmp_path / "modules.parquet", "modules")
    assert row["folder"] == "modules/persona-pirate/s-const-twice-r/seed-5"
    assert [row[name] for name in ("method", "scope", "form", "objective", "span")] == [
        "s-const-twice-r", "S", "Const", "Twice", "R"
    ]  # fmt: skip
    facts = module_facts(row), module_facts(row, with_prompt=True)
    assert [(one["method"], one["name"]) for one in facts] == [
        ("s-const-twice-r", "S-Const Twice·R"),
        ("s-const-twice-r+prompt", "S-Const Twice·R + prompt"),
    ]


@pytest.mark.parametrize(
    ("text", "fits"), [("a-psr-mse-r", False), ("a-psr-ll-r", True), ("s-reft-r1-r", True), (TWICE, False)]
)
def test_whether_a_module_was_fitted_to_likelihoods_is_stored_and_counts_with_a_judge_of_likelihoods(
    text, fits, tmp_path, monkeypatch
):
    monkeypatch.setattr(distill, "material_of", lambda *_: MATERIAL)
    sources = SimpleNamespace(complete=None, select=None, model=None)
    fit = distill._fit_of("persona/pirate", 5, method_named(text), sources, 1, CHANGES, {})
    fit.write(tmp_path, SteeringModule(fit.id, "Const", (1,), "R", "toy", {"z": torch.ones(1, D)}, fit.origin), ())
    [row] = read_table(tmp_path / "modules.parquet", "modules")
    assert row["fits_likelihoods"] == fits
    assert module_facts(row, judge=LikelihoodJudge.id)["favoured"] == fits
    assert module_facts(row, judge=LikelihoodJudge.id, with_prompt=True)["favoured"] == fits
    assert not module_facts(row, judge="rules")["favoured"]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("a-psr-mse-r", [2, 1]), (L1, [2, 1]), ("a-psr-ll-r", [3]), ("s-const-dim-r", [1, 1, 1]), (TWICE, [1, 1, 1])],
)
def test_those_are_fitted_together_whose_recordings_fit_the_budget(text, sizes, monkeypatch, tmp_path):
    monkeypatch.setattr(distill, "held_bytes", lambda folder, name: 10)
    members = [("a", 1), ("a", 2), ("b", 1)]
    groups = joint_groups(members, method_named(text), tmp_path, budget=15)
    assert [len(group) for group in groups] == sizes
    assert [member for group in groups for member in group] == members


@pytest.mark.parametrize(
    ("text", "read"),
    [("s-psr-mse-r", {"instructed"}), (L1, {"instructed"}), ("s-psr-ll-r", set()), ("s-const-caa-r", set()),
     ("s-const-dim-r", {"instructed", "plain"}), ("s-const-dim-same-r", set()), (TWICE, set())],
)  # fmt: skip
def test_a_fit_is_handed_the_recordings_that_its_method_reads(text, read, monkeypatch, tmp_path):
    opened: set[str] = set()

    def opening(folder, name):
        opened.add(name.rpartition("/")[2].rpartition(" ")[2])
        return Held(torch.zeros(1, 0, D), (0,), (0,), "toy", "QR")

    def learning(lm, examples, method, layers, settings, *, targets, plain, **more):
        assert (targets is not None, plain is not None) == ("instructed" in read, "plain" in read)
        raise PsrError("seen")

    monkeypatch.setattr(distill, "read_targets", opening)
    monkeypatch.setattr(distill, "recording", lambda attribute, side: f"{attribute} {side}")
    monkeypatch.setattr("psr.fitting.learning.learn", learning)
    sources = SimpleNamespace(extract=tmp_path)
    with pytest.raises(PsrError, match="seen"):
        distill._alone(fit_of(text), [], method_named(text), sources, lambda n: None)
    assert opened == read
