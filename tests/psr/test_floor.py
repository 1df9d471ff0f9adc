"""The floor is the frozen model's own forward and backward, down to block 0's output."""

import pytest
import torch

from psr.fitting.batches import training_set
from psr.fitting.yardsticks import floor_step
from psr.lm.recording import recorded
from tests.psr.drawn import drawn
from tests.psr.families import LAYERS, family
from tests.psr.toy import examples, toy


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_it_is_the_gradient_of_the_last_block_and_leaves_no_trace(name):
    lm, data = family(name), training_set(drawn(3, 1), "response", 0)
    batch = data.batch(torch.arange(3), lm.device)
    hooks = [len(block._forward_hooks) for block in lm.blocks]
    gradient = floor_step(lm, batch)
    assert [len(block._forward_hooks) for block in lm.blocks] == hooks
    shift = 1e-2 * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
    assert gradient.shape == (*batch.ids.shape, lm.d_model)

    def end(scale: float) -> float:
        handle = lm.blocks[0].register_forward_hook(lambda _, __, out: out + scale * shift)
        try:
            with torch.no_grad(), recorded(lm.model, (LAYERS - 1,)) as found:
                lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
        finally:
            handle.remove()
        return float(found[LAYERS - 1].double().sum())

    assert end(0.5) - end(-0.5) == pytest.approx(float((gradient.double() * shift).sum()), rel=2e-2, abs=1e-3)


def test_every_block_runs_forward_and_all_but_the_first_backward():
    lm, ran = toy(), []

    def note(at: int):
        def hook(block, args, out):
            ran.append(("forward", at))
            if out.requires_grad:
                out.register_hook(lambda gradient: ran.append(("backward", at)))

        return hook

    for at, block in enumerate(lm.model.model.layers):
        block.register_forward_hook(note(at))
    floor_step(lm, training_set(examples(), "response", 0).batch(torch.arange(3), lm.device))
    assert ran == [("forward", 0), ("forward", 1), ("backward", 1)]
