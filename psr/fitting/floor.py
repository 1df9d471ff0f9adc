"""The least that a step of fitting can cost: the frozen model's own forward and backward on the same batch and mask.

The gradient goes down to block 0's output, since a module at every layer changes that one too; there is no head, as the
MSE ends at the last block. Nothing is steered, compared or updated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from psr.fitting.batches import Batch
from psr.lm.recording import recorded

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def floor_step(lm: LanguageModel, batch: Batch) -> Tensor:
    """Forward and backward on `batch`. Returns the gradient of the last block's summed output with respect to block 0's,
    [batch, token, d].
    """
    entering: list[Tensor] = []

    def cut(block: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        tensor = output if isinstance(output, Tensor) else output[0]
        entering.append(tensor.detach().requires_grad_())
        return entering[0] if isinstance(output, Tensor) else (entering[0], *output[1:])

    handle = lm.blocks[0].register_forward_hook(cut)
    try:
        with recorded(lm.model, (lm.n_layers - 1,)) as activations:
            lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    finally:
        handle.remove()
    end = activations[lm.n_layers - 1]
    return torch.autograd.grad(end, entering[0], torch.ones_like(end))[0]
