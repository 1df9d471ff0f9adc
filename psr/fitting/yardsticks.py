"""What the speed of fitting by MSE is measured against: the floor on the same batches, and the paper's loop.

floor_epochs   the frozen model's own forward and backward (psr/fitting/floor.py) on the batches that a fit sees
paper_loop     batch 1, the targets recomputed at each step (Heyman & Vandeputte, ICML 2026, as their code runs it)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from psr.fitting.batches import Batch, epoch_batches
from psr.fitting.floor import floor_step
from psr.fitting.loop import Params, batch_loss, initial_params
from psr.fitting.problem import pose

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
        problem = replace(pose(lm, [example], method, layers, settings, None), scale=1.0)
        optimiser.zero_grad(set_to_none=True)
        loss, _ = batch_loss(problem, problem.data.batch(torch.tensor([0]), lm.device), params)
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(1)
    return params
