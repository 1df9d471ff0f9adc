"""What the speed of fitting by MSE is measured against: the floor on the same batches, and the paper's loop.

floor_step     the frozen model's own forward and backward on a batch: the least that a step of fitting can cost
floor_epochs   the same on all batches that a fit sees
paper_loop     batch 1, the targets recomputed at each step (Heyman & Vandeputte, ICML 2026, as their code runs it)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from psr.fitting.batches import Batch, epoch_batches
from psr.fitting.initial import initial_params
from psr.fitting.loop import Params, batch_loss, pose
from psr.lm.blocks import recorded

if TYPE_CHECKING:
    from psr.fitting.presets import FitSettings
    from psr.fitting.problem import Problem
    from psr.lm.models import LanguageModel
    from psr.types import Example, Method


def batches_of_epoch(problem: Problem) -> list[Batch]:
    """The batches that the first epoch of a fit sees, in its order."""
    shuffle = torch.Generator().manual_seed(problem.settings.seed)
    rows = epoch_batches(problem.data.length, problem.settings.batch_size, shuffle)
    return [problem.data.batch(some, problem.lm.device) for some in rows]


def floor_step(lm: LanguageModel, batch: Batch) -> Tensor:
    """Forward and backward on `batch`. Returns the gradient of the last block's summed output with respect to block 0's,
    [batch, token, d].

    It goes down to block 0's output, since a module at every layer changes that one too; there is no head, as the MSE ends
    at the last block. Nothing is steered, compared or updated.
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


def floor_epochs(lm: LanguageModel, batches: Sequence[Batch], epochs: int) -> None:
    """One step of the floor on every batch, `epochs` times."""
    for _ in range(epochs):
        for batch in batches:
            floor_step(lm, batch)


def paper_loop(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    *,
    progress: Callable[[int], None] | None = None,
) -> Params:
    """One epoch at batch 1 of the MSE, each target recorded when its turn comes. Returns the parameters, settled by nobody.

    The MSE is divided by nothing (the normaliser is one more pass, which is spared here), and the learning rate stays.
    """
    first = pose(lm, examples[:1], method, layers, settings, None)
    params = {name: tensor.to(lm.device).requires_grad_() for name, tensor in initial_params(first).items()}
    optimiser = torch.optim.AdamW(params.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    for example in examples:
        problem = pose(lm, [example], method, layers, settings, None)
        optimiser.zero_grad(set_to_none=True)
        loss, _ = batch_loss(problem, problem.data.batch(torch.tensor([0]), lm.device), params)
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(1)
    return params
