"""Every form fitted by every objective follows the trajectory computed by hand (tests/psr/hand.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from psr.fitting import loop as fitting
from psr.fitting.loop import fit, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FitSettings
from psr.fitting.teacher import Teacher
from tests.psr import hand
from tests.psr.toy import LAYERS, D, examples, toy

OTHERS = ((10, 3), (7, 7, 1), (2,))
FACTOR = 1.5


def preferred(span: str):
    return [replace(one, rejected=other) for one, other in zip(examples(span), OTHERS, strict=True)]


def loss_by_hand(model, data, form: str, objective: str, params, layers, settings, scale: float):
    losses = []
    for one in data:
        t = one.tokens
        alpha = one.trait if objective == "MSE" else 1.0
        per_layer = {layer: {name: value[i] for name, value in params.items()} for i, layer in enumerate(layers)}
        edits = {layer: hand.added(form, p, alpha) for layer, p in per_layer.items()}
        if objective == "MSE":
            starts = (t.plain_start, t.instructed_start)
            value = hand.squared_error(model, t.plain_ids, t.instructed_ids, starts, edits, min(layers)) / scale
        elif objective == "KL":
            value = hand.divergence(model, t.plain_ids, t.instructed_ids, t.response, edits, t.plain_start)
        elif objective == "LL":
            prompt, answer = t.plain_ids[: -t.response], t.plain_ids[-t.response :]
            value = -hand.answer_likelihood(model, prompt, answer, edits, t.plain_start) / t.response
        else:
            prompt, answer = t.plain_ids[: -t.response], t.plain_ids[-t.response :]
            up, down = ({k: hand.added(form, p, f) for k, p in per_layer.items()} for f in (FACTOR, -FACTOR))
            edits = up
            value = hand.preference(model, prompt, answer, one.rejected, up, down, t.plain_start)
        if form.startswith("PSR"):
            seen, _ = hand.run(model, t.plain_ids, edits, t.plain_start)
            before = {k: seen[k][t.plain_start :] for k in layers}  # λ reads what the block returned, before the edit
            for layer in layers:
                unsteered_here = {k: e for k, e in edits.items() if k < layer}
                before[layer] = hand.run(model, t.plain_ids, unsteered_here, t.plain_start)[0][layer][t.plain_start :]
            value = value + settings.regulariser * sum(
                hand.missing_gates(form, per_layer[k], before[k]) for k in layers
            )
        losses.append(value)
    return torch.stack(losses).mean()


SLUGS = [
    "s-psr-kl-r", "a-psr-kl-qr", "s-const-kl-r", "a-const-kl-qr", "s-psr3-mse-r", "a-psr3-mse-qr", "a-psr2-ll-r",
    "s-psr3-kl-qr", "a-psr3-kl-r", "s-const-reps-r", "a-const-reps-qr", "a-psr-reps-r", "s-psr2-reps-r", "s-loreft2-ll-r",
    "a-loreft3-mse-qr", "s-loreft1-kl-r", "a-loreft2-reps-r",
]  # fmt: skip


@pytest.mark.parametrize("slug", SLUGS)
def test_a_fit_follows_the_trajectory_computed_by_hand(slug):
    lm, method = toy(), parse_method(slug)
    data = preferred(method.span)
    layers = (0, 1) if method.scope == "A" else (0,)
    mse = method.objective == "MSE"
    settings = FitSettings(
        epochs=5, batch_size=8, lr=0.03, weight_decay=0.1, regulariser=0.7, normalise=mse, factors=(FACTOR,)
    )
    scale = 1.0
    if mse:
        runs = [
            hand.squared_error(
                lm.model, t.plain_ids, t.instructed_ids, (t.plain_start, t.instructed_start), {}, min(layers)
            )
            for t in (one.tokens for one in data)
        ]
        scale = float(torch.stack(runs).mean())
    params = fitting.initial_params(pose(lm, data, method, layers, settings, None))  # where both begin
    fitted = fit(lm, data, method, layers, settings, module_id="m")

    def loss(live, step):
        return loss_by_hand(lm.model, data, method.form, method.objective, live, layers, settings, scale)

    losses = hand.adamw(loss, params, 5, 0.03, 0.1)
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=2e-4)
    if method.form.startswith("LoReFT"):
        params["z"] = torch.stack([hand.gram_schmidt(rows) for rows in params["z"]])
    assert set(fitted.module.tensors) == set(params)
    for name, value in params.items():
        torch.testing.assert_close(fitted.module.tensors[name], value, rtol=2e-3, atol=3e-4)


def test_predictions_kept_and_computed_again_are_the_same():
    lm, data = toy(), examples("QR")
    problem = pose(lm, data, parse_method("s-psr-kl-qr"), (1,), FitSettings(), None)
    kept, again = Teacher(lm, data), Teacher(lm, data)
    assert kept.store(problem.data, 11)
    assert not again.store(problem.data, 11, budget=100)
    assert again.kept is None
    for rows in ([0, 1, 2], [2], [1, 0]):
        batch = problem.data.batch(torch.tensor(rows), lm.device)
        inside = batch.labels[:, batch.first_label :]
        torch.testing.assert_close(kept.logits(batch)[inside], again.logits(batch)[inside])


def test_nothing_to_distil_is_no_divergence():
    lm = toy()
    same = [
        replace(
            one,
            tokens=replace(one.tokens, instructed_ids=one.tokens.plain_ids, instructed_start=one.tokens.plain_start),
            trait=0.0,
        )
        for one in examples()
    ]
    settings = FitSettings(epochs=1, lr=1e-30, init="small", regulariser=0.0)
    point = fit(lm, same, parse_method("s-psr-kl-r"), (1,), settings, module_id="m").curve[0]
    assert point.objective == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("slug", ["a-psr2-mse-r", "a-psr-mse-qr", "s-const-ll-r", "s-loreft2-ll-r"])
def test_a_warm_start_is_the_leading_singular_directions_of_what_the_prompt_does(slug):
    lm, method = toy(), parse_method(slug)
    data, layers = examples(method.span), (0, 1) if method.scope == "A" else (1,)
    problem = pose(lm, data, method, layers, FitSettings(init="delta"), None)
    params = fitting.initial_params(problem)
    rank = problem.form.rank
    for i, layer in enumerate(layers):
        rows = []
        for t in (one.tokens for one in data):
            A, B = hand.run(lm.model, t.instructed_ids)[0][layer], hand.run(lm.model, t.plain_ids)[0][layer]
            rows.append(A[t.instructed_start :] - B[t.plain_start :])
        delta = torch.cat(rows)
        _, S, V = torch.linalg.svd(delta, full_matrices=False)
        for k, z in enumerate(params["z"][i].view(rank, D)):
            assert z.norm() == pytest.approx(float(S[k] / len(delta) ** 0.5), rel=1e-3)
            assert float(z @ delta.mean(0)) >= 0
            torch.testing.assert_close(z * (z @ V[k]).sign(), V[k] * S[k] / len(delta) ** 0.5, rtol=1e-3, atol=1e-5)
    cold = fitting.initial_params(replace(problem, settings=FitSettings()))
    assert all(torch.equal(params[name], cold[name]) for name in params if name != "z")
    assert LAYERS == 2
