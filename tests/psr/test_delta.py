"""Δ_acc, Δ_loc and accumulated interventions against a two-layer model run by hand, one sequence at a time."""

from dataclasses import replace

import hand
import pytest
import torch
from toy import LAYERS, D, examples, toy

from psr.errors import PsrError
from psr.evaluation.delta import contrast, instructed_run, steered_run
from psr.evaluation.faithfulness import relative_rmse, squared_errors
from psr.evaluation.resampling import once
from psr.steering.module import SteeringModule

LM = toy()
TOKENS = [example.tokens for example in examples("QR")]
E, BLOCKS = LM.model.model.E.weight, LM.model.model.layers


def response(h: torch.Tensor, one) -> torch.Tensor:
    return h[-one.response - 1 :]


def block(h: torch.Tensor, layer: int) -> torch.Tensor:
    return h + torch.tanh(torch.stack([h[: i + 1].mean(0) for i in range(len(h))]) @ BLOCKS[layer].W)


def module(form: str, layers: tuple[int, ...], span: str = "QR", **tensors: torch.Tensor) -> SteeringModule:
    return SteeringModule("m", form, layers, span, "toy", tensors)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_acc_is_the_difference_of_two_runs_at_the_same_answer_tokens(batch_size):
    found = contrast(LM, TOKENS, batch_size=batch_size)
    for i, one in enumerate(TOKENS):
        with_prompt, without = (hand.run(LM.model, ids)[0] for ids in (one.instructed_ids, one.plain_ids))
        for layer in range(LAYERS):
            by_hand = response(with_prompt[layer], one) - response(without[layer], one)
            at = slice(found.plain.offsets[i], found.plain.offsets[i + 1])
            torch.testing.assert_close(found.acc[layer, at], by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_loc_is_what_is_left_when_the_block_below_was_steered_exactly(batch_size):
    found = contrast(LM, TOKENS, batch_size=batch_size)
    for i, one in enumerate(TOKENS):
        wanted, _ = hand.run(LM.model, one.instructed_ids)
        mended = hand.run(LM.model, one.plain_ids)[0][0].clone()
        mended[one.plain_start :] = wanted[0][one.instructed_start :]
        by_hand = response(wanted[1], one) - response(block(mended, 1), one)
        at = slice(found.plain.offsets[i], found.plain.offsets[i + 1])
        torch.testing.assert_close(found.loc[1, at], by_hand, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.loc[0], found.acc[0])
    assert not torch.allclose(found.loc[1], found.acc[1], atol=1e-2)


@pytest.mark.parametrize("span", ["R", "QR"])
def test_a_module_acts_on_its_own_span_and_adds_up_over_layers(span):
    z, w, b = torch.randn(2, D), torch.randn(2, D), torch.tensor([0.5, -0.1])
    run = steered_run(LM, TOKENS, module("PSR", (0, 1), span, z=z, w=w, b=b), 1.5, batch_size=2)
    for i, one in enumerate(TOKENS):
        edits = {layer: hand.added("PSR", {"z": z[layer], "w": w[layer], "b": b[layer]}, 1.5) for layer in (0, 1)}
        first = one.plain_start if span == "QR" else len(one.plain_ids) - one.response - 1
        by_hand, _ = hand.run(LM.model, one.plain_ids, edits, first)
        for layer in range(LAYERS):
            torch.testing.assert_close(run.sequence(i)[layer], response(by_hand[layer], one), rtol=1e-4, atol=1e-5)


def test_no_steering_has_relative_rmse_of_exactly_one_and_the_prompt_of_zero():
    found = contrast(LM, TOKENS)
    energy, counts = squared_errors(found.plain, found.instructed), once(len(TOKENS))
    nothing = steered_run(LM, TOKENS, module("Const", (0,), z=torch.ones(1, D)), 0.0)
    assert (relative_rmse(squared_errors(nothing, found.instructed), energy, counts) == 1.0).all()
    assert (relative_rmse(squared_errors(instructed_run(LM, TOKENS), found.instructed), energy, counts) == 0.0).all()


def test_a_module_that_adds_exactly_what_the_prompt_adds_has_relative_rmse_of_zero():
    """Two tokens and two gates at the last layer, each open at 1 on its own token and closed on the other."""
    one = replace(TOKENS[1], response=1)
    found = contrast(LM, [one])
    A, delta = found.plain.values[1], found.acc[1]
    w = torch.stack([A[0] - A[1], A[1] - A[0]]) / (A[0] - A[1]).square().sum()
    b = -torch.stack([A[1] @ w[0], A[0] @ w[1]])
    run = steered_run(LM, [one], module("PSR2", (1,), "R", z=delta[None], w=w[None], b=b[None]), 1.0)
    errors, energy = (squared_errors(x, found.instructed) for x in (run, found.plain))
    first, last = relative_rmse(errors, energy, once(1))[0]
    assert first == 1.0
    assert last == pytest.approx(0.0, abs=1e-5)


def test_a_single_layer_leaves_earlier_layers_at_one():
    found = contrast(LM, TOKENS)
    energy, counts = squared_errors(found.plain, found.instructed), once(len(TOKENS))
    run = steered_run(LM, TOKENS, module("Const", (1,), z=torch.ones(1, D)), 1.0)
    first, second = relative_rmse(squared_errors(run, found.instructed), energy, counts)[0]
    assert first == 1.0
    assert abs(second - 1.0) > 1e-3


def test_hooks_are_gone_afterwards_even_after_an_error():
    before = [len(b._forward_pre_hooks) + len(b._forward_hooks) for b in BLOCKS]
    contrast(LM, TOKENS)
    steered_run(LM, TOKENS, module("Const", (0,), z=torch.ones(1, D)), 1.0)
    with pytest.raises(PsrError, match="longer than the model's context"):
        contrast(LM, [replace(TOKENS[0], plain_ids=(1,) * 70)])
    assert [len(b._forward_pre_hooks) + len(b._forward_hooks) for b in BLOCKS] == before


def test_what_does_not_fit_is_refused():
    with pytest.raises(PsrError, match=r"span QR.*span R at 0"):
        contrast(LM, [example.tokens for example in examples("R")])
    with pytest.raises(PsrError, match=r"span QR.*none"):
        contrast(LM, [])
    other = replace(module("Const", (0,), z=torch.ones(1, D)), model="another")
    with pytest.raises(PsrError, match="another model"):
        steered_run(LM, TOKENS, other, 1.0)
