"""MSE: the steered run on x y' has the activations of the instructed run on x' y'.

    MSE = Σ_l  1/(n·d) Σ_i ‖ A'[l,i | x y'] − A[l,i | x' y'] ‖²      i over the n tokens of the span

l runs over the lowest steered layer and every later one (Heyman & Vandeputte, ICML 2026, Section 3): what a module does at
one layer is judged by what the layers after it make of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psr.fitting.batches import Batch
from psr.fitting.presets import FAST_MSE, PAPER_MSE
from psr.fitting.problem import Objective, Problem, Steering, activations, soft_labels
from psr.types import INSTRUCTED


def mean_squared_error(A: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One layer's term of the MSE, per sequence.

    A, target: [batch, token, d] of any float dtype, compared in fp32. mask: [batch, token] bool, True on the span,
    which holds at least one token of every sequence. Returns [batch].
    """
    return _MeanSquaredError.apply(A.float(), target.float(), mask)  # type: ignore[no-any-return, no-untyped-call]


class _MeanSquaredError(torch.autograd.Function):
    """The same numbers as autograd's, bit for bit, in half its passes over [batch, token, d]."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        difference = torch.sub(A, target).masked_fill_(~mask.unsqueeze(-1), 0.0)  # before squaring: nan * 0 is nan
        count = mask.sum(dim=1)
        ctx.save_for_backward(difference, count)
        return difference.square().mean(dim=-1).sum(dim=1) / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        difference, count = ctx.saved_tensors
        return difference * (2 * (gradient / count / difference.shape[-1]))[:, None, None], None, None


def rows(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """The MSE of each row, [batch], not divided."""
    A = activations(problem, batch, steering, problem.seen)
    targets = zip(problem.seen, problem.wanted(batch), strict=True)
    return torch.stack([mean_squared_error(A[layer], target, batch.span) for layer, target in targets]).sum(dim=0)


MSE = Objective(
    name="MSE",
    presets={"paper": PAPER_MSE, "fast": FAST_MSE},
    rows=rows,
    reads=(INSTRUCTED,),
    strengths=soft_labels,
    normalises=True,
    imitates_runs=True,
)
