"""RePS: steered by +f the wanted answer y' is preferred, by −f the plain one y (arXiv:2505.20809).

    RePS = −log σ( s · ℓ(y' | +f)/|y'| − ℓ(y | +f)/|y| ) − log σ( s̄ · ℓ(y | −f)/|y| − ℓ(y' | −f)/|y'| )

    s = max(1, ℓ_ref(y) − ℓ_ref(y')), s̄ with y and y' changed round

ℓ is a summed log-likelihood under the steered model, ℓ_ref under the unsteered one. f is drawn for each example from the
strengths that will be used later. Four forwards a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from psr.fitting.batches import Batch, TrainingSet, rejected_set
from psr.fitting.presets import FAST_LL, PAPER_LL, FitSettings
from psr.fitting.problem import MEASURING_BATCH, Objective, Problem, Steering, label_mask, labels_of, logits


@dataclass(frozen=True, eq=False)
class Rejected:
    """The plain answers y to the same prompts, and ℓ_ref of y' and of y, [example] each on the CPU."""

    data: TrainingSet
    reference: tuple[Tensor, Tensor]


def log_likelihood(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """ℓ: the sum over the labels of log p(label), per sequence. Arguments as LL's. Returns [batch]."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(mask)
    return -losses.masked_fill(~mask, 0.0).sum(dim=1)


def preference(
    wanted: Tensor, other: Tensor, reference: tuple[Tensor, Tensor], lengths: tuple[Tensor, Tensor]
) -> Tensor:
    """One half of RePS, per sequence: prefer `wanted` to `other` (ℓ under the steered model, [batch]).

    reference: ℓ_ref of the two, lengths: their numbers of tokens, both in the order (wanted, other). Returns [batch].
    """
    s = (reference[1] - reference[0]).clamp_min(1.0)
    return -F.logsigmoid(s * wanted / lengths[0] - other / lengths[1])


def prepare(problem: Problem) -> Rejected:
    """The plain answers, and what the unsteered model makes of both. Raises PsrError where an example has none."""
    rejected = rejected_set(problem.lm, problem.examples)
    return Rejected(rejected, (_reference(problem, problem.data), _reference(problem, rejected)))


@torch.no_grad()
def _reference(problem: Problem, data: TrainingSet) -> Tensor:
    """ℓ_ref of every answer of `data`, [example] on the CPU."""
    values = torch.empty(len(data))
    for rows in data.length.argsort(stable=True).split(MEASURING_BATCH):
        values[rows] = _likelihood(problem, data.batch(rows, problem.lm.device), Steering()).float().cpu()
    return values


def _likelihood(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    return log_likelihood(logits(problem, batch, steering), labels_of(batch), label_mask(batch))


def rows(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """RePS of each row, [batch]. The gates that count are those of the run on x y' by +f."""
    rejected: Rejected = problem.prepared
    other = rejected.data.batch(batch.rows, problem.lm.device)
    n, m = batch.labels.sum(dim=1), other.labels.sum(dim=1)
    liked, disliked = (values[batch.rows].to(n.device) for values in rejected.reference)
    towards, away = steering.uncounted(), steering.reversed()
    forward = preference(
        _likelihood(problem, batch, steering), _likelihood(problem, other, towards), (liked, disliked), (n, m)
    )
    back = preference(_likelihood(problem, other, away), _likelihood(problem, batch, away), (disliked, liked), (m, n))
    return forward + back


def drawn_factors(settings: FitSettings, traits: Tensor, draw: torch.Generator) -> Tensor:
    """f of each example, drawn from those that will be used."""
    factors = torch.tensor(settings.factors)
    return factors[torch.randint(len(factors), (len(traits),), generator=draw)].to(traits.device)


REPS = Objective(
    name="RePS",
    presets={"paper": PAPER_LL, "fast": FAST_LL},
    rows=rows,
    prepare=prepare,
    strengths=drawn_factors,
    fits_likelihoods=True,
    label_span="response",
    from_frozen=False,  # the plain answers have streams of their own
)
