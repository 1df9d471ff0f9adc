"""Negatives, plain answers whose target is that nothing changes: what they cost, and that a fit without them is as before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from families import TEMPLATES, tokenizer

from psr.errors import PsrError
from psr.fitting.initial import initial_params
from psr.fitting.joint import fit_many
from psr.fitting.loop import batch_loss, fit, pose
from psr.fitting.losses import dead_gates, never_opens, normalised, terms
from psr.fitting.methods import parse_method
from psr.fitting.objectives.kl import changed
from psr.fitting.presets import FitSettings
from psr.fitting.problem import Steering
from psr.lm.alignment import align, align_plain
from psr.lm.chats import encode_chat
from psr.types import Example, PromptPair
from tests.psr import hand
from tests.psr.drawn import drawn
from tests.psr.families import family
from tests.psr.toy import D, example, examples, toy

SETTINGS = FitSettings(epochs=5, batch_size=8, lr=0.03, weight_decay=0.1, regulariser=0.7)


def unchanged(one: Example) -> Example:
    """A negative of the same x y."""
    tokens = replace(one.tokens, instructed_ids=one.tokens.plain_ids, instructed_start=one.tokens.plain_start)
    return Example(tokens)


def mixed(span: str) -> list[Example]:
    """A positive, a negative, a positive, a negative, of lengths that differ."""
    first, second, third = examples(span)
    return [first, unchanged(example([5, 7, 2, 1], [3, 3, 9], span=span)), third, unchanged(second)]


def squared_error(model, one: Example, edits, lowest: int):
    t = one.tokens
    return hand.squared_error(model, t.plain_ids, t.instructed_ids, (t.plain_start, t.instructed_start), edits, lowest)


def moved(model, one: Example, edits):
    """KL of the untouched to the steered predictions of the answer, a token, by torch's own kl_div."""
    t = one.tokens
    before, after = (hand.run(model, t.plain_ids, e, t.plain_start)[1][-t.response - 1 : -1] for e in ({}, edits))
    return F.kl_div(after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean")


def loss_by_hand(model, data, form, objective, params, layers, settings, scale):
    losses = []
    for one in data:
        t, alpha = one.tokens, one.trait if objective == "MSE" else 1.0
        per_layer = {layer: {name: value[i] for name, value in params.items()} for i, layer in enumerate(layers)}
        edits = {layer: hand.added(form, p, alpha) for layer, p in per_layer.items()}
        if one.negative and settings.keep:
            value = settings.keep * moved(model, one, edits)
        elif objective == "MSE":
            value = squared_error(model, one, edits, min(layers)) / scale
        else:
            prompt, answer = t.plain_ids[: -t.response], t.plain_ids[-t.response :]
            value = -hand.answer_likelihood(model, prompt, answer, edits, t.plain_start) / t.response
        if form.startswith("PSR") and not one.negative:
            for layer in layers:
                below = {k: e for k, e in edits.items() if k < layer}
                h = hand.run(model, t.plain_ids, below, t.plain_start)[0][layer][t.plain_start :]
                value = value + settings.regulariser * hand.missing_gates(form, per_layer[layer], h)
        losses.append(value)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("keep", [0.0, 0.8])
@pytest.mark.parametrize("slug", ["a-psr-mse-qr", "s-psr2-mse-r", "a-const-mse-r", "a-psr2-ll-qr"])
def test_a_fit_with_negatives_follows_the_trajectory_computed_by_hand(slug, keep):
    lm, method = toy(), parse_method(slug)
    data, layers = mixed(method.span), (0, 1) if method.scope == "A" else (0,)
    settings = replace(SETTINGS, keep=keep, normalise=method.objective == "MSE")
    positives = [one for one in data if not one.negative]
    errors = [squared_error(lm.model, one, {}, min(layers)) for one in positives]
    scale = float(torch.stack(errors).mean()) if settings.normalise else 1.0
    params = initial_params(pose(lm, data, method, layers, settings, None))
    fitted = fit(lm, data, method, layers, settings, module_id="m")

    def loss(live, step):
        return loss_by_hand(lm.model, data, method.form, method.objective, live, layers, settings, scale)

    losses = hand.adamw(loss, params, 5, 0.03, 0.1)
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=2e-4)
    for name, value in params.items():
        torch.testing.assert_close(fitted.module.tensors[name], value, rtol=2e-3, atol=3e-4)


@pytest.mark.parametrize("keep", [0.0, 0.8])
def test_modules_with_negatives_fitted_in_one_pass_are_those_fitted_alone(keep):
    lm, method = family("llama"), parse_method("a-psr2-mse-qr")
    settings = replace(SETTINGS, epochs=2, batch_size=3, lr=3e-3, keep=keep)
    data = {}
    for name, n in (("a", 5), ("b", 3)):
        own = drawn(n, n, "QR")
        data[name] = [unchanged(one) if i % 2 else one for i, one in enumerate(own)]
    joint = fit_many(lm, data, method, range(lm.n_layers), settings, seeds={"a": 1, "b": 2}, tokens=60)
    for name, seed in (("a", 1), ("b", 2)):
        alone = fit(lm, data[name], method, range(lm.n_layers), replace(settings, seed=seed), module_id=name)
        for tensor, value in alone.module.tensors.items():
            torch.testing.assert_close(joint[name].module.tensors[tensor], value, rtol=2e-4, atol=2e-5)
        assert [p.loss for p in joint[name].curve] == pytest.approx([p.loss for p in alone.curve], rel=1e-4)


@pytest.mark.parametrize("slug", ["a-psr-mse-qr", "s-psr2-ll-r", "a-const-mse-r"])
def test_without_negatives_loss_and_gradients_are_bit_for_bit_what_they_were(slug):
    lm, method = toy(), parse_method(slug)
    settings = replace(SETTINGS, normalise=method.objective == "MSE")
    layers = (0, 1) if method.scope == "A" else (1,)
    problem = normalised(pose(lm, examples(method.span), method, layers, settings, None))
    batch = problem.data.batch(torch.arange(3), lm.device)
    alpha = problem.objective.strengths(settings, batch.trait, torch.Generator())
    start = initial_params(problem)

    def before(params):
        """The loss as it stood before there were negatives, of the objective and the hooks alone."""
        opened = {}

        def on_strength(layer, lam, mask):
            outside = ~batch.span.view(*batch.span.shape, *[1] * (lam.dim() - 2))
            opened[layer] = lam.masked_fill(outside, 0.0).sum(dim=1)

        used = {name: tensor.unsqueeze(1) for name, tensor in problem.form.settle(params).items()}
        losses = problem.objective.rows(problem, batch, Steering(terms(problem, used, alpha), on_strength))
        objective = losses.mean() / problem.scale
        if not problem.form.gated:
            return objective
        return objective + 0.7 * dead_gates(torch.cat([opened[k].view(3, -1).T for k in layers])).mean()

    gradients = []
    for loss_of in (before, lambda params: batch_loss(problem, batch, params, alpha)[0]):
        params = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        loss = loss_of(params)
        gradients.append([loss.detach(), *torch.autograd.grad(loss, list(params.values()))])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_the_kl_of_a_row_is_torchs_and_0_where_nothing_is_added():
    lm, method = toy(), parse_method("a-const-mse-qr")
    data = [unchanged(one) for one in examples("QR")]
    problem = pose(lm, data, method, (0, 1), SETTINGS, None)
    batch = problem.data.batch(torch.arange(3), lm.device)
    z = torch.randn(2, D, generator=torch.Generator().manual_seed(5))
    steering = Steering(terms(problem, {"z": z.unsqueeze(1)}, torch.full((3,), 1.0)))
    edits = {layer: hand.added("Const", {"z": z[layer]}, 1.0) for layer in (0, 1)}
    expected = torch.stack([moved(lm.model, one, edits) for one in data])
    assert float(expected.min()) > 0.01
    torch.testing.assert_close(changed(problem, batch, steering), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(changed(problem, batch, Steering()), torch.zeros(3))


def test_a_negatives_gates_may_stay_closed_and_do_not_make_a_dead_module_alive():
    lm, method = toy(), parse_method("s-psr-mse-r")
    data = mixed("R")
    problem = normalised(pose(lm, data, method, (1,), SETTINGS, None))
    closed = {"z": torch.zeros(1, D), "w": torch.zeros(1, D), "b": torch.tensor([-1.0])}
    _, parts = batch_loss(problem, problem.data.batch(torch.arange(4), lm.device), closed)
    assert parts[2:].tolist() == pytest.approx([0.5, 0.5])  # the two positives' of four rows
    streams = [hand.run(lm.model, one.tokens.plain_ids)[0][1][one.tokens.plain_start :] for one in data]
    w = torch.linalg.lstsq(torch.cat(streams), torch.cat([torch.full((len(h),), 2.0 * one.negative) for h, one in
                           zip(streams, data, strict=True)])).solution  # fmt: skip
    highest = max(float((h @ w).max()) for h, one in zip(streams, data, strict=True) if not one.negative)
    only = {"z": torch.zeros(1, D), "w": w[None], "b": torch.tensor([-highest - 1e-4])}
    assert any(bool((h @ w > highest + 1e-3).any()) for h, one in zip(streams, data, strict=True) if one.negative)
    assert never_opens(problem, only, torch.arange(4))


def test_a_warm_start_comes_from_what_the_prompt_does():
    lm, method = toy(), parse_method("a-psr2-mse-r")
    settings = replace(SETTINGS, init="delta")
    with_and_without = [mixed("R"), [one for one in mixed("R") if not one.negative]]
    both = [initial_params(pose(lm, data, method, (0, 1), settings, None))["z"] for data in with_and_without]
    assert torch.equal(*both)


def test_keep_without_negatives_is_refused():
    lm, method, settings = toy(), parse_method("a-psr-mse-r"), replace(SETTINGS, keep=0.5)
    with pytest.raises(PsrError, match=r"keep is about negatives.*expected one or more among the examples.*got none"):
        fit(lm, examples(), method, (0, 1), settings, module_id="m")
    with pytest.raises(PsrError, match=r"keep is about negatives.*\(b\)"):
        fit_many(lm, {"a": mixed("R"), "b": examples()}, method, (0, 1), settings)
    with pytest.raises(PsrError, match="keep"):
        replace(SETTINGS, keep=-1.0)


@pytest.mark.parametrize("span", ["R", "QR"])
@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_a_plain_answer_aligned_with_itself_starts_where_steering_does(template, span):
    using, pair = tokenizer(template, "pieces"), PromptPair("persona/x", "What is the sun?", "Answer in the sky.")
    tokens = align_plain(using, pair.plain, (7, 8, 2), span)
    prompt = encode_chat(using, pair.plain)
    assert tokens.plain_ids == tokens.instructed_ids == (*prompt.ids, 7, 8, 2)
    assert tokens.plain_start == tokens.instructed_start == prompt.start(span)
    assert (tokens.response, tokens.span, Example(tokens).negative) == (3, span, True)
    assert not Example(align(using, pair, (7, 8, 2), span)).negative
    with pytest.raises(PsrError, match="an answer without tokens"):
        align_plain(using, pair.plain, (), span)
