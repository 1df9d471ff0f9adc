"""The loss of the rows of a batch: the objective, what it is divided by, and the dead-gate regulariser.

    loss = objective / its mean without steering + 0.1 · Σ_l max(0, 1 − Σ_i λ[l,i])

(Heyman & Vandeputte, ICML 2026, Section 3.) A gate that never opens gets no gradient, hence the second term. Only objectives
that say so are divided, and only forms with a ReLU are regularised, each gate by itself.

A negative, a plain answer y whose target is that nothing changes, is beyond the paper (whose negative examples are answers
with little of the trait). Its gates may stay closed and it has no part in the mean without steering, so that

    loss = objective(x y beside x y) / that mean                                 where the setting `keep` is 0
    loss = keep · 1/m Σ_i KL( p(· | x y_<i) ‖ p(· | x y_<i, steered) )           where it is not
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch
from psr.fitting.objectives.kl import changed
from psr.fitting.problem import MEASURING_BATCH, Problem, Steering
from psr.steering.hooks import Term

Rows = Callable[[Problem, Batch, Steering], Tensor]


def row_losses(
    problem: Problem, batch: Batch, used: Mapping[str, Tensor], alpha: Tensor, scale: float | Tensor = 1.0
) -> tuple[Tensor, Tensor | None]:
    """The objective of each row, [batch], not divided, and how far its gates opened, Σ_i λ: [layer · r, batch].

    used: settled, [layer, 1 or batch, *shape] (one module for all rows, or one a row); alpha: [batch]; scale, [batch] or one
    number: what the caller divides by. The second is None for forms without gates, and ∞ for negatives.
    """
    negative = problem.data.negative[batch.rows]
    if not negative.any():
        return _measured(problem, batch, used, alpha, problem.objective.rows)
    keep, on_device = problem.settings.keep, negative.to(problem.lm.device)
    if keep:
        losses, opened = _by_kind(problem, batch, used, alpha, negative)
        losses = torch.where(on_device, keep * scale * losses, losses)
    else:
        losses, opened = _measured(problem, batch, used, alpha, problem.objective.rows)
    return losses, None if opened is None else opened.masked_fill(on_device, float("inf"))


def _by_kind(
    problem: Problem, batch: Batch, used: Mapping[str, Tensor], alpha: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor | None]:
    """As `_measured`, in a run for each kind of row: the objective of those that are no negatives, `changed` of the others."""
    device = problem.lm.device
    order: list[Tensor] = []
    runs: list[tuple[Tensor, Tensor | None]] = []
    kinds: tuple[tuple[Tensor, Rows], ...] = ((~negative, problem.objective.rows), (negative, changed))
    for kind, rows in kinds:
        which = kind.nonzero().squeeze(-1)
        if len(which):
            at = which.to(device)
            own = {name: tensor if tensor.shape[1] == 1 else tensor[:, at] for name, tensor in used.items()}
            runs.append(_measured(problem, problem.data.batch(batch.rows[which], device), own, alpha[at], rows))
            order.append(which)
    back = torch.cat(order).argsort().to(device)
    gates = [opened for _, opened in runs if opened is not None]
    return torch.cat([losses for losses, _ in runs])[back], torch.cat(gates, dim=1)[:, back] if gates else None


def _measured(
    problem: Problem, batch: Batch, used: Mapping[str, Tensor], alpha: Tensor, rows: Rows
) -> tuple[Tensor, Tensor | None]:
    """What `rows` gives each row, [batch], and how far its gates opened."""
    opening: dict[int, Tensor] = {}

    def on_strength(layer: int, lam: Tensor, mask: Tensor) -> None:  # `mask` does not leave out right padding
        opening[layer] = lam.masked_fill(~batch.span.view(*batch.span.shape, *[1] * (lam.dim() - 2)), 0.0).sum(dim=1)

    losses = rows(problem, batch, Steering(terms(problem, used, alpha), on_strength))
    if not problem.form.gated:
        return losses, None
    if not opening:
        raise PsrError("an objective ran nothing that was steered", where=problem.objective.name,
                       expected="a run on the batch by the `steering` that it is given")  # fmt: skip
    return losses, torch.cat([opening[layer].view(len(batch.span), -1).T for layer in problem.layers])


def terms(problem: Problem, used: Mapping[str, Tensor], alpha: Tensor) -> dict[int, list[Term]]:
    """One term a layer. used: settled, [layer, 1 or batch, *shape]; alpha: [batch]."""
    layers = {name: tensor.unbind(0) for name, tensor in used.items()}
    return {
        layer: [Term(problem.form, {name: values[i] for name, values in layers.items()}, alpha)]
        for i, layer in enumerate(problem.layers)
    }


def dead_gates(opening: Tensor) -> Tensor:
    """The dead-gate regulariser without its weight. opening: Σ_i λ, [layer, sequence]. Returns [sequence]."""
    return (1.0 - opening).clamp_min(0.0).sum(dim=0)


def dead_share(opening: Tensor) -> Tensor:
    """Share of (layer, sequence) pairs in which no gate is open at all. opening: Σ_i λ, [layer, batch]. Returns []."""
    return (opening <= 0).float().mean()


@torch.no_grad()
def unsteered_errors(problem: Problem) -> Tensor:
    """What each example's objective is divided by before any mean: its value without steering, or 1 where the settings do
    not normalise, the objective is not one that is divided, or the example is a negative. [example] fp64 on the CPU.
    """
    errors = torch.ones(len(problem.data), dtype=torch.float64)
    if problem.objective.normalises and problem.settings.normalise:
        for rows in problem.data.positives(problem.data.length.argsort(stable=True)).split(MEASURING_BATCH):
            batch = problem.data.batch(rows, problem.lm.device)
            errors[rows] = problem.objective.rows(problem, batch, Steering()).double().cpu()
    return errors


def normalised(problem: Problem) -> Problem:
    """With what the objective is divided by, where the settings ask for it: its mean without steering."""
    own = torch.arange(len(problem.data))
    return replace(problem, scale=mean_error(problem, unsteered_errors(problem), own))


def mean_error(problem: Problem, errors: Tensor, own: Tensor) -> float:
    """The mean of the unsteered `errors` of the examples `own` ([n] long) that are no negatives (1 where all are), by which
    the objective is divided. Raises PsrError where it cannot be.
    """
    name, positives = problem.objective.name, problem.data.positives(own)
    mean = float(errors[positives if len(positives) else own].mean())
    if not mean > 0 or mean == float("inf"):
        raise PsrError(
            f"the {name} cannot be normalised",
            expected="instructed runs that differ from the plain ones",
            got=f"a mean unsteered {name} of {mean}",
            do="Look at the pairs, or turn `normalise` off.",
        )
    return mean


@torch.no_grad()
def never_opens(problem: Problem, params: Mapping[str, Tensor], own: Tensor) -> bool:
    """Whether every gate is closed on every span token of the examples `own` ([n] long), negatives left out, at α = 1."""
    used = {name: tensor.unsqueeze(1) for name, tensor in problem.form.settle(params).items()}
    own = problem.data.positives(own)
    for rows in own[problem.data.length[own].argsort(stable=True)].split(MEASURING_BATCH):
        batch = problem.data.batch(rows, problem.lm.device)
        _, opened = row_losses(problem, batch, used, torch.ones(len(rows), device=problem.lm.device))
        if opened is not None and not bool((opened <= 0).all()):
            return False
    return True
