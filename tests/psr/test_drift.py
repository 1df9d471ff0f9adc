"""Drift against KL written out with plain sums on a two-layer model run by hand, one answer at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import hand
import numpy as np
import pytest
import torch
from toy import LAYERS, D, activations, examples, toy

from psr.errors import PsrError
from psr.evaluation.drift import Drift, adapter_drift, divergence, module_drift, prompt_drift
from psr.fitting.lora import fit_adapter
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_ADAPTER
from psr.steering.adapter import Adapter
from psr.steering.module import SteeringModule
from tests.psr.drawn import drawn
from tests.psr.families import family

LM = toy()
TOKENS = [example.tokens for example in examples("QR")]


def by_hand(p: list[list[float]], q: list[list[float]]) -> float:
    """Summed KL of two lists of logits, with math alone."""
    total = 0.0
    for here, there in zip(p, q, strict=True):
        P, Q = ([math.exp(value) / sum(map(math.exp, row)) for value in row] for row in (here, there))
        total += sum(a * math.log(a / b) for a, b in zip(P, Q, strict=True))
    return total


def answer_logits(logits: torch.Tensor, one) -> list[list[float]]:
    """What predicts the answer's tokens: from the last prompt token to the last but one."""
    return logits.double()[-one.response - 1 : -1].tolist()


def module(form: str, span: str = "QR") -> SteeringModule:
    generator = torch.Generator().manual_seed(3)
    tensors = {"z": torch.randn(LAYERS, D, generator=generator)}
    if form == "PSR":
        tensors |= {"w": torch.randn(LAYERS, D, generator=generator), "b": torch.tensor([0.5, -0.1])}
    return SteeringModule("m", form, tuple(range(LAYERS)), span, "toy", tensors)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_prompts_drift_is_the_kl_between_the_plain_and_the_instructed_run(batch_size):
    found = prompt_drift(LM, TOKENS, batch_size=batch_size)
    for i, one in enumerate(TOKENS):
        plain, told = (answer_logits(hand.run(LM.model, ids)[1], one) for ids in (one.plain_ids, one.instructed_ids))
        assert found.nats[i] == pytest.approx(by_hand(plain, told), rel=1e-3, abs=1e-5)
    assert found.tokens.tolist() == [4, 1, 2]


@pytest.mark.parametrize("span", ["R", "QR"])
@pytest.mark.parametrize("form", ["Const", "PSR"])
def test_a_modules_drift_is_of_steering_on_its_own_span(form, span):
    steering = module(form, span)
    found = module_drift(LM, TOKENS, steering, 0.7, batch_size=2)
    for i, one in enumerate(TOKENS):
        start = one.plain_start if span == "QR" else len(one.plain_ids) - one.response - 1
        told = activations(LM.model, one.plain_ids, steering.tensors, steering.layers, 0.7, start)[2]
        plain = activations(LM.model, one.plain_ids)[2]
        assert found.nats[i] == pytest.approx(
            by_hand(answer_logits(plain, one), answer_logits(told, one)), rel=1e-3, abs=1e-5
        )


def test_an_adapters_drift_is_of_its_weights_and_grows_with_its_strength():
    name, own = "layers.0.W", LM.model.model.layers[0].W
    values = {key: one.detach() for key, one in LM.model.named_parameters()} | {f"model.{name}": own.detach() * 1.5}
    full = Adapter("full", "Full", "toy", values)
    found = [adapter_drift(LM, TOKENS, full, alpha, batch_size=2) for alpha in (0.0, 0.5, 1.0)]
    for i, one in enumerate(TOKENS):
        plain = answer_logits(hand.run(LM.model, one.plain_ids)[1], one)
        before = own.data
        own.data = before * 1.25
        try:
            told = answer_logits(hand.run(LM.model, one.plain_ids)[1], one)
        finally:
            own.data = before
        assert found[1].nats[i] == pytest.approx(by_hand(plain, told), rel=1e-3, abs=1e-5)
    assert found[0].nats.tolist() == [0.0] * 3
    assert found[0].nats.sum() < found[1].nats.sum() < found[2].nats.sum()


def test_lora_drifts_and_leaves_the_model_as_it_was():
    lm, data = family("llama"), drawn(4, 1)
    tokens = [one.tokens for one in data]
    lora = fit_adapter(
        lm, data, parse_method("lora2-ll"), replace(FAST_ADAPTER, epochs=2, batch_size=2, lr=1e-2), module_id="m"
    ).module
    assert adapter_drift(lm, tokens, lora, 1.0, batch_size=2).nats.min() > 0
    assert adapter_drift(lm, tokens, lora, 0.0).nats.max() == 0


def test_nothing_changed_is_no_drift():
    same = [replace(one, instructed_ids=one.plain_ids) for one in TOKENS]
    assert prompt_drift(LM, same).nats.tolist() == [0.0] * 3
    assert module_drift(LM, TOKENS, module("PSR"), 0.0).nats.tolist() == [0.0] * 3


def test_divergence_is_between_two_known_distributions():
    p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log() + 3
    assert divergence(p, q).tolist() == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5)], rel=1e-6)
    assert divergence(q, p).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-6)


def test_the_mean_is_over_tokens_and_its_interval_over_answers():
    drift = Drift(np.array([10.0, 1.0, 4.0]), np.array([2.0, 1.0, 7.0]))
    value, low, high = drift.per_token(resamples=4000, seed=1)
    generator = np.random.default_rng(5)
    drawn_means = [drift.nats[rows].sum() / drift.tokens[rows].sum() for rows in generator.integers(0, 3, (20000, 3))]
    assert value == 1.5
    assert (low, high) == pytest.approx(np.quantile(drawn_means, [0.025, 0.975]), rel=0.05)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(PsrError, match=r"measured on answers.*got none"):
        prompt_drift(LM, [])
    with pytest.raises(PsrError, match=r"steers the question too.*aligned on span QR, got span R"):
        module_drift(LM, [one.tokens for one in examples("R")], module("PSR"), 1.0)
    with pytest.raises(PsrError, match="fingerprint"):
        module_drift(LM, TOKENS, replace(module("PSR"), model="another"), 1.0)
