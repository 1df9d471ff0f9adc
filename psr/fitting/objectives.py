"""The terms a module is fitted by, as pure functions on tensors (Heyman & Vandeputte, ICML 2026, Section 3).

    MSE  = Σ_l  1/(n·d) Σ_i ‖ A'[l,i | x y'] − A[l,i | x' y'] ‖²      i over the n tokens of the span, l over layers
    LL   = − 1/m Σ_i log p(y'_i | x, y'_<i, steered)                  i over the m labels
    dead = Σ_l max(0, 1 − Σ_i λ[l,i])                                 a gate that never opens gets no gradient

Beyond the paper, and of others:

    KL   = 1/m Σ_i KL( p(· | x' y'_<i) ‖ p(· | x y'_<i, steered) )    over the whole vocabulary, at the m labels
    RePS = − log σ( s · ℓ(y')/|y'| − ℓ(y)/|y| )                       s = max(1, ℓ_ref(y) − ℓ_ref(y')), arXiv:2505.20809

ℓ is a summed log-likelihood under the steered model, ℓ_ref under the unsteered one, y the plain answer. Each returns
one value per sequence, [batch]: the mean over a batch then equals the mean of its singles, whatever the lengths.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def negative_log_likelihood(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """LL: mean over the labels of −log p(label), per sequence.

    logits: [batch, token, vocabulary] at the positions that predict; labels: [batch, token] long, the token that comes
    next; mask: [batch, token] bool, True where there is a label (at least one a sequence). Returns [batch].
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(mask)
    return losses.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)


def log_likelihood(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """ℓ: the sum over the labels of log p(label), per sequence. Arguments as above. Returns [batch]."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(mask)
    return -losses.masked_fill(~mask, 0.0).sum(dim=1)


def divergence(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL: mean over the labels of KL(teacher ‖ steered), per sequence.

    logits, teacher: [batch, token, vocabulary] at the positions that predict; mask: [batch, token] bool, True where
    there is a label (at least one a sequence); elsewhere teacher may hold anything. Returns [batch].
    """
    wanted, steered = teacher.float().log_softmax(dim=-1), logits.float().log_softmax(dim=-1)
    losses = F.kl_div(steered, wanted, reduction="none", log_target=True).sum(dim=-1)
    return losses.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)


def preference(
    wanted: Tensor, other: Tensor, reference: tuple[Tensor, Tensor], lengths: tuple[Tensor, Tensor]
) -> Tensor:
    """RePS, per sequence: prefer `wanted` to `other` (ℓ under the steered model, [batch]).

    reference: ℓ_ref of the two, lengths: their numbers of tokens, both in the order (wanted, other). Returns [batch].
    """
    s = (reference[1] - reference[0]).clamp_min(1.0)
    return -F.logsigmoid(s * wanted / lengths[0] - other / lengths[1])


def dead_gates(opening: Tensor) -> Tensor:
    """The dead-gate regulariser without its weight. opening: Σ_i λ, [layer, sequence]. Returns [sequence]."""
    return (1.0 - opening).clamp_min(0.0).sum(dim=0)


def dead_share(opening: Tensor) -> Tensor:
    """Share of (layer, sequence) pairs in which no gate is open at all. opening: Σ_i λ, [layer, batch]. Returns []."""
    return (opening <= 0).float().mean()


def soft_alphas(traits: Tensor, soft: bool, offset: float = 0.0) -> Tensor:
    """α in training: the judge's trait score of y' in [0, 1] plus `offset`, or 1. traits and result: [sequence]."""
    return traits + offset if soft else torch.ones_like(traits)
