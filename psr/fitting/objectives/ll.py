"""LL: the steered model says y'.

LL = − 1/m Σ_i log p(y'_i | x, y'_<i, steered)      i over the m labels (Heyman & Vandeputte, ICML 2026, Section 3)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from psr.fitting.batches import Batch
from psr.fitting.presets import FAST_LL, PAPER_LL
from psr.fitting.problem import Objective, Problem, Steering, label_mask, labels_of, logits


def negative_log_likelihood(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """LL: mean over the labels of −log p(label), per sequence: the mean over a batch is the mean of its singles.

    logits: [batch, token, vocabulary] at the positions that predict; labels: [batch, token] long, the token that comes
    next; mask: [batch, token] bool, True where there is a label (at least one a sequence). Returns [batch].
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(mask)
    return losses.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)


def rows(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """The LL of each row, [batch]."""
    return negative_log_likelihood(logits(problem, batch, steering), labels_of(batch), label_mask(batch))


LL = Objective(name="LL", presets={"paper": PAPER_LL, "fast": FAST_LL}, rows=rows, fits_likelihoods=True)
