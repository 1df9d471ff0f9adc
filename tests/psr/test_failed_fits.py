"""Fits that go wrong say so: the last good state, dead gates, mixtures nobody meant, ranks that cannot be."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting import loop as fitting
from psr.fitting.loop import Diverged, fit
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_LL, FAST_MSE, FitSettings, package
from tests.psr.test_objectives_by_hand import preferred
from tests.psr.toy import D, examples, toy

A_PSR = parse_method("a-psr-mse-r")


@pytest.mark.parametrize("slug", ["a-psr-mse-r", "a-psr2-kl-r", "a-const-ll-r", "a-loreft2-ll-r", "a-psr-reps-r"])
def test_divergence_hands_over_the_last_good_state(slug):
    settings = FitSettings(epochs=3, batch_size=1, lr=1e30, normalise=False, regulariser=0.0)
    with pytest.raises(Diverged, match=r"fitting diverged \(step \d of 3 in epoch \d\)") as caught:
        fit(toy(), preferred("R"), parse_method(slug), (0, 1), settings, module_id="m")
    good = caught.value.last_good
    assert all(bool(torch.isfinite(tensor).all()) for tensor in good.tensors.values())
    assert good.origin["stopped"]["epoch"] < 3
    assert copy.copy(caught.value).last_good.id == "m"


def test_the_last_good_state_is_that_of_the_last_finite_epoch(monkeypatch):
    calls, real = [], fitting.batch_loss

    def poisoned(problem, batch, params, factor=None):
        loss, parts = real(problem, batch, params, factor)
        calls.append(1)
        return (loss * float("nan"), parts * float("nan")) if len(calls) > 4 else (loss, parts)

    settings = replace(FAST_MSE, epochs=5, batch_size=8)
    monkeypatch.setattr(fitting, "batch_loss", poisoned)
    with pytest.raises(Diverged, match=r"step 1 of 1 in epoch 5") as caught:
        fit(toy(), examples(), A_PSR, (0, 1), settings, module_id="m")
    seen = []
    monkeypatch.setattr(
        fitting,
        "batch_loss",
        lambda problem, batch, params, factor=None: (
            seen.append({name: value.detach().clone() for name, value in params.items()}),
            real(problem, batch, params, factor),
        )[1],
    )
    fit(toy(), examples(), A_PSR, (0, 1), settings, module_id="m")
    good = caught.value.last_good
    assert good.origin["stopped"] == {"epoch": 4}
    assert all(torch.equal(good.tensors[name], value) for name, value in seen[4].items())


@pytest.mark.parametrize("slug", ["a-psr-mse-r", "a-psr3-ll-r"])
def test_gates_that_end_closed_everywhere_are_reported(slug, monkeypatch):
    method, real = parse_method(slug), fitting.initial_params

    def start(bias: float):
        def closed(problem):
            params = real(problem)
            return {**params, "w": torch.zeros_like(params["w"]), "b": torch.full_like(params["b"], bias)}

        return closed

    for bias, dead in ((-1.0, True), (1.0, False)):
        monkeypatch.setattr(fitting, "initial_params", start(bias))
        settings = replace(FAST_LL, epochs=1, lr=1e-3)
        fitted = fit(toy(), examples(), method, (0, 1), settings, module_id="m")
        assert fitted.dead == dead
        assert fitted.module.origin.get("dead", False) == dead


def test_a_module_with_one_open_gate_is_alive(monkeypatch):
    real = fitting.initial_params

    def one_open(problem):
        params = real(problem)
        return {**params, "w": torch.zeros_like(params["w"]), "b": torch.tensor([[-1.0, -1.0], [-1.0, 1.0]])}

    monkeypatch.setattr(fitting, "initial_params", one_open)
    fitted = fit(
        toy(), examples(), parse_method("a-psr2-ll-r"), (0, 1), replace(FAST_LL, epochs=1, lr=1e-4), module_id="m"
    )
    assert fitted.curve[-1].dead == pytest.approx(3 / 4)
    assert not fitted.dead


def test_constant_and_signed_forms_have_no_gate_to_die():
    for slug in ("a-const-ll-r", "a-loreft2-ll-r"):
        fitted = fit(toy(), examples(), parse_method(slug), (0, 1), replace(FAST_LL, epochs=1), module_id="m")
        assert not fitted.dead
        assert (fitted.curve[0].regulariser, fitted.curve[0].dead) == (0.0, 0.0)


def test_a_regulariser_without_the_normalised_mse_is_refused_unless_it_is_meant():
    mixed = replace(FAST_MSE, epochs=1, normalise=False)
    with pytest.raises(
        PsrError, match=r"regulariser, normalise.*persona, ifeval, axbench.*mixed=True.*got regulariser 0.1"
    ):
        fit(toy(), examples(), A_PSR, (0, 1), mixed, module_id="m")
    for good in (
        replace(mixed, mixed=True),
        *(replace(FAST_MSE, epochs=1, **package(name)) for name in ("persona", "ifeval", "axbench")),
    ):
        fit(toy(), examples(), A_PSR, (0, 1), good, module_id="m")
    fit(toy(), examples(), parse_method("a-const-mse-r"), (0, 1), mixed, module_id="m")  # nothing to regularise


@pytest.mark.parametrize(
    ("slug", "message"),
    [
        (f"s-psr{D + 1}-mse-r", r"rank larger than the model's width.*1 to 6, got 7"),
        (f"s-loreft{D + 1}-ll-r", r"rank larger"),
        ("s-const-reps-r", r"plain answer too \(example 0\).*rejected"),
        ("s-proj-stolfo-r", r"not fitted by gradients.*MSE, LL, KL, RePS"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(slug, message):
    with pytest.raises(PsrError, match=message) as error:
        fit(toy(), examples(), parse_method(slug), (0,), FAST_MSE, module_id="m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [(), (0.0,), (1.0, float("nan")), (1.0, -1.0)])
def test_factors_that_make_no_sense_are_refused(value):
    with pytest.raises(PsrError, match=r"factors.*one or more positive numbers"):
        FitSettings(factors=value)


def test_a_plain_answer_beyond_the_context_is_refused():
    data = [replace(one, rejected=(1,) * 64) for one in examples()]
    with pytest.raises(PsrError, match="plain answer is longer than the model's context"):
        fit(toy(), data, parse_method("s-const-reps-r"), (0,), FAST_LL, module_id="m")
