"""Fitting against a trajectory computed by hand (tests/psr/toy.py), and on tiny models of real families."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting import loop as fitting
from psr.fitting.loop import batch_loss, fit, normalised, pose
from psr.fitting.methods import METHODS, parse_method
from psr.fitting.presets import FAST_MSE, PAPER_LL, PAPER_MSE, FitSettings
from psr.lm.models import LanguageModel
from psr.lm.recording import Targets, record
from psr.types import Example
from tests.psr.families import family
from tests.psr.toy import D, adamw_by_hand, example, examples, loss_by_hand, toy

A_PSR, S_PSR, S_CONST = (parse_method(f"{name}-mse-r") for name in ("a-psr", "s-psr", "s-const"))
STILL = FitSettings(epochs=1, batch_size=1, lr=1e-30, normalise=False, weight_decay=0.0, mixed=True)


def plain_runs(data) -> tuple[list, list]:
    return [one.tokens.plain_ids for one in data], [one.tokens.plain_start for one in data]


def start_of(lm, data, method, layers, settings) -> dict[str, Tensor]:
    """The parameters that a fit starts from: what it returns when its rate is nil."""
    still = replace(settings, lr=1e-30, weight_decay=0.0, epochs=1)
    return dict(fit(lm, data, method, layers, still, module_id="still").module.tensors)


FITTED = [m for m in METHODS if m.form in ("Const", "PSR") and m.objective in ("MSE", "LL")]


@pytest.mark.parametrize("method", FITTED, ids=lambda method: method.slug)
def test_a_fit_follows_the_trajectory_computed_by_hand(method):
    lm, data = toy(), examples(method.span)
    layers = (0, 1) if method.scope == "A" else (0,)
    mse = method.objective == "MSE"
    settings = FitSettings(epochs=6, batch_size=8, lr=0.05, weight_decay=0.1, regulariser=0.7, normalise=mse)
    scale = 1.0
    if mse:
        nothing = {"z": torch.zeros(len(layers), D)}
        scale = float(loss_by_hand(lm.model, data, nothing, layers, "MSE", settings, 1.0))
    params = start_of(lm, data, method, layers, settings)
    losses = adamw_by_hand(lm.model, data, params, layers, method.objective, settings, scale)
    fitted = fit(lm, data, method, layers, settings, module_id="m")
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=1e-4)
    assert set(fitted.module.tensors) == set(params)
    for name, value in params.items():
        torch.testing.assert_close(fitted.module.tensors[name], value, rtol=1e-3, atol=1e-4)


def test_a_single_layer_is_judged_at_its_own_and_every_later_layer():
    lm, data = toy(), examples()
    for layer in (0, 1):
        params = start_of(lm, data, S_PSR, (layer,), STILL)
        expected = loss_by_hand(lm.model, data, params, (layer,), "MSE", replace(STILL, regulariser=0.0), 1.0)
        point = fit(lm, data, S_PSR, (layer,), STILL, module_id="m").curve[0]
        assert point.objective == pytest.approx(float(expected), rel=1e-5)


def test_labels_may_cover_the_whole_steered_span():
    lm, data, method = toy(), examples("QR"), parse_method("a-psr-ll-qr")
    found = {}
    for kind in ("response", "span"):
        settings = replace(STILL, label_span=kind, regulariser=0.0)
        params = start_of(lm, data, method, (0, 1), settings)
        expected = float(loss_by_hand(lm.model, data, params, (0, 1), "LL", settings, 1.0))
        found[kind] = fit(lm, data, method, (0, 1), settings, module_id="m").curve[0].loss
        assert found[kind] == pytest.approx(expected, rel=1e-5)
    assert found["response"] != pytest.approx(found["span"])


def real_examples(span: str = "R") -> list[Example]:
    generator = torch.Generator().manual_seed(5)
    draw = [torch.randint(6, 250, (n,), generator=generator).tolist() for n in (5, 9, 2, 7, 3, 12)]
    return [example(draw[i], draw[i + 1], 0.4 + 0.2 * i / 2, span, word=251) for i in (0, 2, 4)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt", "qwen2_moe"])
@pytest.mark.parametrize("slug", ["a-psr-mse-qr", "s-const-mse-r", "a-psr-ll-r"])
def test_the_gradient_of_a_batch_is_the_mean_of_its_singles(name, slug):
    lm, method = family(name), parse_method(slug)
    layers = (1,) if method.scope == "S" else tuple(range(lm.n_layers))
    problem = pose(lm, real_examples(method.span), method, layers, PAPER_MSE, None)
    params = {key: value.requires_grad_() for key, value in fitting.initial_params(problem).items()}

    def gradient(rows: list[int]) -> list[Tensor]:
        loss, _ = batch_loss(problem, problem.data.batch(torch.tensor(rows), lm.device), params)
        return [loss.detach(), *torch.autograd.grad(loss, list(params.values()))]

    singles = [gradient([row]) for row in range(3)]
    for together, *alone in zip(gradient([0, 1, 2]), *singles, strict=True):
        torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-3, atol=1e-5)


def test_recorded_targets_give_the_same_module_as_none():
    lm, data = family("llama"), real_examples()
    runs = [one.tokens.instructed_ids for one in data], [one.tokens.instructed_start for one in data]
    settings = replace(FAST_MSE, epochs=2)
    without = fit(lm, data, S_PSR, (1,), settings, module_id="m").module
    for layers in ((1, 2), (0, 1, 2), (2, 1, 0)):
        targets = record(lm, *runs, layers, span="R")
        fitted = fit(lm, data, S_PSR, (1,), settings, targets=targets, module_id="m").module
        assert all(torch.equal(fitted.tensors[name], value) for name, value in without.tensors.items())


def test_the_normaliser_is_the_mean_unsteered_error_over_the_training_set():
    lm, data = toy(), [replace(one, trait=0.0) for one in examples()]
    problem = pose(lm, data, A_PSR, (0, 1), PAPER_MSE, None)
    nothing = {"z": torch.zeros(2, D)}
    by_hand = loss_by_hand(lm.model, data, nothing, (0, 1), "MSE", replace(PAPER_MSE, regulariser=0), 1.0)
    assert normalised(problem).scale == pytest.approx(float(by_hand), rel=1e-5)
    unsteered = fit(lm, data, A_PSR, (0, 1), replace(PAPER_MSE, epochs=1), module_id="m")  # trait 0: alpha 0
    assert unsteered.curve[0].objective == pytest.approx(1.0, rel=1e-5)


def test_hard_labels_ignore_the_trait_and_an_offset_is_added_to_soft_ones():
    lm = toy()
    half, whole = ([replace(one, trait=trait) for one in examples()] for trait in (0.5, 1.0))

    def objective(data, **change) -> float:
        return fit(lm, data, A_PSR, (0, 1), replace(STILL, **change), module_id="m").curve[0].objective

    assert objective(half, soft_labels=False) == objective(whole)
    assert objective(half) != pytest.approx(objective(whole))
    assert objective(half, alpha_offset=0.5) == objective(whole)


def test_parameters_are_fp32_on_a_half_precision_model():
    model = toy().model.to(torch.bfloat16)
    model.model.E.to(torch.bfloat16)
    lm = LanguageModel(model, SimpleNamespace(pad_token_id=0), "toy")
    fitted = fit(lm, examples(), A_PSR, (0, 1), FAST_MSE, module_id="m")
    assert {value.dtype for value in fitted.module.tensors.values()} == {torch.float32}
    assert fitted.curve[-1].objective < fitted.curve[0].objective


def test_the_model_is_left_as_it_was():
    lm = toy()
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    fit(lm, examples(), A_PSR, (0, 1), replace(FAST_MSE, epochs=2), module_id="m")
    assert all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())


def test_fitting_lowers_the_loss_and_all_layers_lower_it_more():
    lm, data = family("llama"), real_examples()
    settings = replace(FAST_MSE, epochs=60, regulariser=0.0)
    ends = {}
    for method, layers in ((S_PSR, (2,)), (A_PSR, (0, 1, 2))):
        curve = fit(lm, data, method, layers, settings, module_id="m").curve
        ends[method.slug] = curve[-1].objective
        assert curve[-1].objective < 0.9 * curve[0].objective
    assert ends["a-psr-mse-r"] < 0.5


def test_a_constant_shift_is_recovered():
    """When the instructed run is the plain run plus a vector at the last layer, S-Const finds that vector."""
    lm, data = toy(), [replace(one, trait=1.0) for one in examples()]
    shift = torch.linspace(-1, 1, D)
    plain = record(lm, *plain_runs(data), [1], span="R")
    targets = Targets(plain.values + shift, plain.offsets, (1,), "toy", "R")
    settings = FitSettings(epochs=400, lr=0.05, weight_decay=0.0)
    fitted = fit(lm, data, S_CONST, (1,), settings, targets=targets, module_id="m")
    torch.testing.assert_close(fitted.module.tensors["z"][0], shift, rtol=0, atol=1e-2)
    assert fitted.curve[-1].objective < 1e-3


def test_closed_gates_are_penalised_and_reported(monkeypatch):
    def closed(problem):
        return {"z": torch.ones(2, D), "w": torch.zeros(2, D), "b": torch.tensor([-1.0, 0.125])}

    monkeypatch.setattr(fitting, "initial_params", closed)
    data = [example([1, 2, 3], [4, 5, 6]), example([3, 1], [8])]  # 4 and 2 span tokens: Σλ 0.5 and 0.25 in layer 1
    point = fit(toy(), data, A_PSR, (0, 1), replace(STILL, regulariser=0.1, batch_size=2), module_id="m").curve[0]
    assert point.dead == pytest.approx(0.5)
    assert point.regulariser == pytest.approx((1.5 + 1.75) / 2)
    assert point.loss == pytest.approx(point.objective + 0.1 * point.regulariser, rel=1e-5)


def test_constant_modules_have_no_gate_to_die():
    point = fit(toy(), examples(), S_CONST, (1,), replace(FAST_MSE, epochs=1), module_id="m").curve[0]
    assert (point.regulariser, point.dead) == (0.0, 0.0)
    assert point.loss == point.objective


def test_the_same_seed_gives_the_same_module_and_another_seed_does_not():
    lm, data = family("llama"), real_examples()

    def tensors(seed: int, **change) -> dict[str, Tensor]:
        settings = replace(PAPER_MSE, epochs=2, seed=seed, **change)
        return dict(fit(lm, data, A_PSR, (0, 1, 2), settings, module_id="m").module.tensors)

    for init in ("uniform", "small"):
        once, again, other = tensors(1, init=init), tensors(1, init=init), tensors(2, init=init)
        assert all(torch.equal(once[name], again[name]) for name in once)
        assert not any(torch.equal(once[name], other[name]) for name in once)


def test_the_order_of_the_examples_follows_the_seed(monkeypatch):
    monkeypatch.setattr(fitting, "initial_params", lambda problem: {"z": torch.ones(2, D)})

    def z(seed: int) -> Tensor:
        settings = replace(PAPER_MSE, epochs=2, seed=seed)
        return fit(toy(), examples(), parse_method("a-const-mse-r"), (0, 1), settings, module_id="m").module.tensors[
            "z"
        ]

    assert torch.equal(z(1), z(1))
    assert any(not torch.equal(z(1), z(seed)) for seed in range(2, 6))


def test_initial_values_follow_the_settings():
    lm, data = toy(), examples()
    problem = pose(lm, data, parse_method("a-psr-ll-r"), (0, 1), PAPER_LL, None)
    uniform = fitting.initial_params(problem)
    assert max(float(value.abs().max()) for value in uniform.values()) <= 1 / math.sqrt(D)
    small = fitting.initial_params(replace(problem, settings=replace(PAPER_LL, init="small")))
    assert small["b"].tolist() == [0.0, 0.0]
    assert 0 < float(small["z"].abs().max()) < 0.05


def test_module_and_curve_say_where_they_come_from():
    lm, seen = toy(), []
    settings = replace(FAST_MSE, epochs=3, batch_size=2)
    told = {"attribute": "a"}
    fitted = fit(lm, examples(), A_PSR, (1, 0), settings, module_id="m", origin=told, progress=seen.append)
    module = fitted.module
    assert (module.id, module.form, module.layers, module.span, module.model) == ("m", "PSR", (0, 1), "R", "toy")
    assert module.origin["attribute"] == "a"
    assert module.origin["method"] == "a-psr-mse-r"
    assert module.origin["settings"]["epochs"] == 3
    assert module.origin["examples"] == 3
    assert [point.epoch for point in fitted.curve] == [1, 2, 3]
    assert sum(seen) == 3 * 3
    assert len(seen) == 3 * 2


def test_a_fit_may_stop_early():
    lm = toy()
    full = fit(lm, examples(), A_PSR, (0, 1), replace(FAST_MSE, epochs=20), module_id="m").curve
    bar = full[4].objective * 1.0001
    short = fit(lm, examples(), A_PSR, (0, 1), replace(FAST_MSE, epochs=20, stop_below=bar), module_id="m").curve
    assert short == full[: len(short)]
    assert len(short) <= 5
    assert short[-1].objective < bar <= short[-2].objective


def test_divergence_names_its_step_and_epoch():
    lm, data = toy(), examples()
    with pytest.raises(PsrError, match=r"fitting diverged \(step \d of 3 in epoch \d\).*nan|inf"):
        fit(lm, data, A_PSR, (0, 1), replace(PAPER_MSE, lr=1e30), module_id="m")


def test_nothing_to_imitate_cannot_be_normalised():
    lm, data = toy(), examples()
    plain = record(lm, *plain_runs(data), [0, 1], span="R")
    with pytest.raises(PsrError, match="cannot be normalised"):
        fit(lm, data, A_PSR, (0, 1), FAST_MSE, targets=plain, module_id="m")
