"""KL: the steered model predicts what the instructed one predicts. Beyond the paper.

KL = 1/m Σ_i KL( p(· | x' y'_<i) ‖ p(· | x y'_<i, steered) )      over the whole vocabulary, at the m labels

`changed` is the same with the untouched model in the instructed one's place, for whichever objective (the setting `keep`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from psr.fitting.batches import Batch
from psr.fitting.presets import FAST_LL, PAPER_LL
from psr.fitting.problem import Objective, Problem, Steering, label_mask, logits
from psr.fitting.teacher import Teacher, stored_teacher


def divergence(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL: mean over the labels of KL(teacher ‖ steered), per sequence.

    logits, teacher: [batch, token, vocabulary] at the positions that predict; mask: [batch, token] bool, True where
    there is a label (at least one a sequence); elsewhere teacher may hold anything. Returns [batch].
    """
    wanted, steered = teacher.float().log_softmax(dim=-1), logits.float().log_softmax(dim=-1)
    losses = F.kl_div(steered, wanted, reduction="none", log_target=True).sum(dim=-1)
    return losses.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)


def prepare(problem: Problem) -> Teacher:
    """The instructed model's predictions, kept where they fit a budget."""
    return stored_teacher(problem.lm, problem.examples, problem.data)


def rows(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """The KL of each row, [batch]."""
    return divergence(logits(problem, batch, steering), problem.prepared.logits(batch), label_mask(batch))


def changed(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """1/m Σ_i KL( p(· | x y_<i) ‖ p(· | x y_<i, steered) ) of each row, [batch]: how far steering moves the predictions."""
    with torch.no_grad():
        untouched = logits(problem, batch, Steering())
    return divergence(logits(problem, batch, steering), untouched, label_mask(batch))


KL = Objective(
    name="KL",
    presets={"paper": PAPER_LL, "fast": FAST_LL},
    rows=rows,
    prepare=prepare,
    imitates_runs=True,
    fits_likelihoods=True,
)
