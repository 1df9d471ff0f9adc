"""A forward that begins with the lowest steered block's recorded output is the full forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from psr.fitting import loop as fitting
from psr.fitting.batches import training_set
from psr.fitting.frozen import beginning_with, can_begin_at, frozen_stream, stream_of
from psr.fitting.loop import batch_loss, fit, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE
from psr.lm.recording import recorded
from tests.psr.drawn import drawn
from tests.psr.families import FAMILIES, LAYERS, family
from tests.psr.toy import examples, toy

SETTINGS = replace(FAST_MSE, epochs=2, batch_size=4)
families = pytest.mark.parametrize("name", list(FAMILIES))


@families
@pytest.mark.parametrize("layer", range(LAYERS))
def test_every_later_block_returns_what_it_returns_in_the_full_run(name, layer):
    lm, data = family(name), training_set(drawn(3, 1, "QR"), "response", 0)
    batch = data.batch(torch.arange(3), lm.device)

    def outputs(stream):
        with (
            torch.no_grad(),
            recorded(lm.model, range(layer, LAYERS)) as found,
            beginning_with(lm.model, layer, stream),
        ):
            last = lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)[0]
            return [*found.values(), last]

    whole = outputs(None)
    assert can_begin_at(lm, data, layer)
    for mine, theirs in zip(outputs(whole[0]), whole, strict=True):
        assert torch.equal(mine, theirs)


@families
@pytest.mark.parametrize("slug", ["s-psr-mse-r", "a-psr-mse-qr", "s-psr4-ll-r"])
def test_loss_and_gradients_are_those_of_the_full_run(name, slug):
    lm, method = family(name), parse_method(slug)
    layers = (1,) if method.scope == "S" else tuple(range(LAYERS))
    found = []
    for once in (False, True):
        posed = pose(lm, drawn(5, 1, method.span), method, layers, SETTINGS, None, once)
        params = {key: value.requires_grad_() for key, value in fitting.initial_params(posed).items()}
        loss, _ = batch_loss(posed, posed.data.batch(torch.tensor([3, 0, 4]), lm.device), params)
        found.append([loss.detach(), *torch.autograd.grad(loss, list(params.values()))])
    assert posed.frozen is not None
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("slug", ["s-psr-mse-r", "a-const-ll-r", "s-psr-kl-r"])
def test_the_module_is_that_of_the_full_run(slug):
    lm, method, data = family("llama"), parse_method(slug), drawn(9, 2)
    layers = (2,) if method.scope == "S" else tuple(range(LAYERS))
    settings = SETTINGS if method.objective == "MSE" else replace(SETTINGS, normalise=False)
    once, whole = (
        fit(lm, data, method, layers, settings, module_id="m", frozen_once=on).module for on in (True, False)
    )
    for name, value in whole.tensors.items():
        torch.testing.assert_close(once.tensors[name], value, rtol=2e-4, atol=2e-5)


def test_the_stream_is_the_blocks_output_at_every_real_token():
    lm, data = family("gpt2"), training_set(drawn(4, 3), "response", 0)
    frozen = frozen_stream(lm, data, 1)
    batch = data.batch(torch.tensor([2, 0, 3]), lm.device)
    with torch.no_grad(), recorded(lm.model, (1,)) as found:
        lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    real = batch.attention.bool()
    torch.testing.assert_close(stream_of(frozen, batch, lm.device)[real], found[1][real], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_blocks_up_to_the_module_run_no_more(layer):
    lm, ran = family("llama"), []
    handles = [
        block.self_attn.register_forward_hook(lambda *_, at=at: ran.append(at)) for at, block in enumerate(lm.blocks)
    ]
    try:
        problem = pose(lm, drawn(4, 1), parse_method("s-psr-mse-r"), (layer,), SETTINGS, None, True)
        params = {key: value.requires_grad_() for key, value in fitting.initial_params(problem).items()}
        ran.clear()
        batch_loss(problem, problem.data.batch(torch.arange(4), lm.device), params)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == list(range(layer + 1, LAYERS))


def test_a_stream_beyond_its_budget_is_not_kept():
    lm, data = family("llama"), training_set(drawn(4, 3), "response", 0)
    size = int(data.length.sum()) * lm.d_model * 4
    assert frozen_stream(lm, data, 1, size) is not None
    assert frozen_stream(lm, data, 1, size - 1) is None


class Counting(nn.Module):
    """A block that passes on more than the residual stream: it tells the next one how often it was called."""

    def __init__(self, block: nn.Module, notes: list[float]) -> None:
        super().__init__()
        self.block, self.notes = block, notes

    def forward(self, h):
        self.notes.append(float(h.detach().mean()))
        return self.block(h) + sum(self.notes[-2:])


def test_a_model_whose_blocks_pass_on_more_runs_in_full():
    lm, notes = toy(), []
    lm.model.model.layers = nn.ModuleList([Counting(block, notes) for block in lm.model.model.layers])
    assert not can_begin_at(lm, training_set(examples(), "response", 0), 0)
    assert frozen_stream(lm, training_set(examples(), "response", 0), 0) is None
    fit(lm, examples(), parse_method("s-psr-mse-r"), (0,), SETTINGS, module_id="m", frozen_once=True)


def test_the_model_is_itself_again_after_an_exception():
    lm = family("llama")

    def interrupted():
        with beginning_with(lm.model, 2, torch.zeros(1, 2, 32)):
            assert "forward" in lm.blocks[1].__dict__
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert not any("forward" in block.__dict__ for block in lm.blocks)
