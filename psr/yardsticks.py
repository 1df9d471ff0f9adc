"""What fitting by MSE is measured against: the transformer's own cost below it, and the paper's loop above it.

    floor        one forward and one backward of the frozen model on the same batch and mask, the gradient down to what
                 block 0 returns, no language-model head; nothing steered, nothing compared
    paper_loop   batch 1, the targets recomputed at each step (Heyman & Vandeputte, ICML 2026, as their code runs it)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.batches import Batch, epoch_batches
from psr.fitting import Params, batch_loss, initial_params
from psr.problem import pose
from psr.recording import recorded

if TYPE_CHECKING:
    from psr.models import LanguageModel
    from psr.presets import FitSettings
    from psr.problem import Problem
    from psr.types import Example, Method


def floor(lm: LanguageModel, batch: Batch) -> Tensor:
    """The gradient of the last block's summed activations inside the span, with respect to what block 0 returns.

    batch: as a fit sees it. Returns [batch, token, d].
    """
    with _leaf_at_block_0(lm) as leaf, recorded(lm.model, [lm.n_layers - 1]) as A:
        lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
        (A[lm.n_layers - 1].float() * batch.span.unsqueeze(-1)).sum().backward()
        gradient = leaf[0].grad
    assert gradient is not None  # noqa: S101  a leaf that the sum depends on has one
    return gradient


@contextmanager
def _leaf_at_block_0(lm: LanguageModel) -> Iterator[list[Tensor]]:
    """While open, gradients begin at what block 0 returns; the list holds it after a forward."""
    leaf: list[Tensor] = []

    def hook(block: Any, args: Any, output: Any) -> Any:
        A = output if isinstance(output, Tensor) else output[0]
        leaf[:] = [A.detach().requires_grad_()]
        return leaf[0] if isinstance(output, Tensor) else (leaf[0], *output[1:])

    handle = lm.blocks[0].register_forward_hook(hook)
    try:
        yield leaf
    finally:
        handle.remove()


def batches_of_epoch(problem: Problem) -> list[Batch]:
    """The batches that the first epoch of a fit sees, in its order."""
    shuffle = torch.Generator().manual_seed(problem.settings.seed)
    rows = epoch_batches(problem.data.length, problem.settings.batch_size, shuffle)
    return [problem.data.batch(some, problem.lm.device) for some in rows]


def paper_loop(
    lm: LanguageModel, examples: Sequence[Example], method: Method, layers: tuple[int, ...], settings: FitSettings, *,
    progress: Callable[[int], None] | None = None,
) -> Params:
    """One epoch at batch 1 of the MSE, each target recorded when its turn comes. Returns the parameters, settled by nobody.

    The MSE is divided by nothing (the normaliser is one more pass, which is spared here), and the learning rate stays.
    """
    first = pose(lm, examples[:1], method, layers, settings, None)
    params = {name: tensor.to(lm.device).requires_grad_() for name, tensor in initial_params(first).items()}
    optimiser = torch.optim.AdamW(params.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    for example in examples:
        problem = replace(pose(lm, [example], method, layers, settings, None), scale=1.0)
        optimiser.zero_grad(set_to_none=True)
        loss, _ = batch_loss(problem, problem.data.batch(torch.tensor([0]), lm.device), params)
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(1)
    return params
