"""What a fit works on (Problem), and the objective of each row of a batch: one forward over x y' (MSE, LL, KL), four for RePS.

    RePS = −log σ( s · ℓ(y' | +f)/|y'| − ℓ(y | +f)/|y| ) − log σ( s̄ · ℓ(y | −f)/|y| − ℓ(y' | −f)/|y'| )

steered by +f the wanted answer is preferred, by −f the plain one (arXiv:2505.20809); s and s̄ as in psr/fitting/objectives.py.
The MSE of a module whose lowest layer is l sums over layer l and every later one (Heyman & Vandeputte, ICML 2026, Section 3):
what a module does at one layer is judged by what the layers after it make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch, TrainingSet
from psr.fitting.frozen import beginning_with, stream_of
from psr.fitting.objectives import (
    divergence,
    log_likelihood,
    mean_squared_error,
    negative_log_likelihood,
    preference,
    soft_alphas,
)
from psr.fitting.presets import FitSettings
from psr.fitting.stores import Store
from psr.fitting.teacher import Teacher, logits_to_end
from psr.lm.blocks import recorded
from psr.lm.recording import Targets
from psr.steering.forms import Form, form_named
from psr.steering.hooks import Term, hooked
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

OnStrength = Callable[[int, Tensor, Tensor], None]
Steering = Mapping[int, list[Term]]
MEASURING_BATCH = 32  # batch size of passes without gradients; it changes no result


@dataclass(frozen=True, eq=False)
class Problem:
    """What stays the same over all steps of a fit: the model, the padded examples, and what the objective needs.

    targets: the instructed activations (MSE); teacher: the instructed predictions (KL); rejected: the plain answers to the
    same prompts, reference: ℓ_ref of (y', y), [example] each (RePS); LL needs nothing more. frozen: what the lowest steered
    block returns unsteered, where it is not computed again in each step. scale: what the objective is divided by.
    """

    lm: LanguageModel
    examples: tuple[Example, ...]
    data: TrainingSet
    method: Method
    layers: tuple[int, ...]
    settings: FitSettings
    targets: Store | None = None
    teacher: Teacher | None = None
    rejected: TrainingSet | None = None
    reference: tuple[Tensor, Tensor] | None = None
    frozen: Targets | None = None
    scale: float = 1.0

    @property
    def form(self) -> Form:
        """The form of module that is fitted."""
        return form_named(self.method.form)

    @property
    def objective(self) -> str:
        """ "MSE", "LL", "KL" or "RePS"."""
        return self.method.objective

    @property
    def mse(self) -> bool:
        """Whether this is an MSE fit."""
        return self.targets is not None

    @property
    def seen(self) -> tuple[int, ...]:
        """The layers that the MSE sums over."""
        return tuple(range(self.layers[0], self.lm.n_layers))

    def wanted(self, place: Tensor) -> Tensor:
        """A[l,i | x' y'] laid over a batch of plain runs. place: [batch, token] from its Batch.

        Returns [layer, batch, token, d] on the model's device, in the order of `seen`; meaningful inside the span.
        """
        if self.targets is None:
            raise PsrError(f"{self.objective} has no targets", expected="an MSE fit")
        rows = torch.tensor([self.targets.layers.index(layer) for layer in self.seen])
        device = self.targets.device  # the CPU, or the model's when the caller moved them there
        return self.targets.at(rows, place.to(device)).to(self.lm.device)


def row_losses(
    problem: Problem, batch: Batch, used: Mapping[str, Tensor], factor: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The objective of each row, [batch], not divided, and how far its gates opened, Σ_i λ: [layer · r, batch].

    used: settled, [layer, 1 or batch, *shape] (one module for all rows, or one a row). α is `factor` ([batch]), or what the
    settings say. The second is None for forms without gates.
    """
    opening: dict[int, Tensor] = {}

    def on_strength(layer: int, lam: Tensor, mask: Tensor) -> None:  # `mask` does not leave out right padding
        opening[layer] = lam.masked_fill(~batch.span.view(*batch.span.shape, *[1] * (lam.dim() - 2)), 0.0).sum(dim=1)

    alpha = factor
    if alpha is None:
        soft = problem.mse and problem.settings.soft_labels
        alpha = soft_alphas(batch.trait, soft, problem.settings.alpha_offset)
    steering = terms(problem, used, alpha)
    labels = slice(batch.first_label, None)
    if problem.mse:
        losses = squared_error(problem, batch, steering, on_strength)
    elif problem.objective == "RePS":
        losses = _preference(problem, batch, steering, terms(problem, used, -alpha), on_strength)
    elif problem.teacher is not None:
        logits = _logits(problem, batch, steering, on_strength)
        losses = divergence(logits, problem.teacher.logits(batch), batch.labels[:, labels])
    else:
        logits = _logits(problem, batch, steering, on_strength)
        losses = negative_log_likelihood(logits, batch.ids[:, labels], batch.labels[:, labels])
    if not problem.form.gated:
        return losses, None
    return losses, torch.cat([opening[layer].view(len(batch.span), -1).T for layer in problem.layers])


def terms(problem: Problem, used: Mapping[str, Tensor], alpha: Tensor) -> dict[int, list[Term]]:
    """One term a layer. used: settled, [layer, 1 or batch, *shape]; alpha: [batch]."""
    layers = {name: tensor.unbind(0) for name, tensor in used.items()}
    return {
        layer: [Term(problem.form, {name: values[i] for name, values in layers.items()}, alpha)]
        for i, layer in enumerate(problem.layers)
    }


def squared_error(problem: Problem, batch: Batch, steering: Steering, on_strength: OnStrength | None = None) -> Tensor:
    """The MSE of each row, [batch], not divided. The forward has no language-model head: the MSE ends at the last block."""
    lm = problem.lm
    with (
        _beginning(problem, batch),
        hooked(lm.model, steering, batch.start, on_strength),
        recorded(lm.model, problem.seen) as A,
    ):
        lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    targets = zip(problem.seen, problem.wanted(batch.place), strict=True)
    return torch.stack([mean_squared_error(A[layer], target, batch.span) for layer, target in targets]).sum(dim=0)


def likelihood(problem: Problem, batch: Batch, steering: Steering, on_strength: OnStrength | None = None) -> Tensor:
    """ℓ of each answer, [batch]."""
    labels = slice(batch.first_label, None)
    return log_likelihood(_logits(problem, batch, steering, on_strength), batch.ids[:, labels], batch.labels[:, labels])


def _logits(problem: Problem, batch: Batch, steering: Steering, on_strength: OnStrength | None) -> Tensor:
    """Logits only from the first position of the batch that predicts a label, [batch, token, vocabulary]."""
    steered = hooked(problem.lm.model, steering, batch.start, on_strength) if steering else nullcontext()
    with _beginning(problem, batch), steered:
        return logits_to_end(problem.lm, batch.ids, batch.attention, batch.first_label - 1)


def _beginning(problem: Problem, batch: Batch) -> AbstractContextManager[None]:
    """A forward that begins with what the lowest steered block returns unsteered, where the problem knows it."""
    stream = None if problem.frozen is None else stream_of(problem.frozen, batch, problem.lm.device)
    return beginning_with(problem.lm.model, problem.layers[0], stream)


def _preference(
    problem: Problem, batch: Batch, towards: Steering, away: Steering, on_strength: OnStrength | None
) -> Tensor:
    """RePS of each row, [batch]. towards, away: steering by +f and by −f."""
    if problem.rejected is None or problem.reference is None:
        raise PsrError("RePS has no plain answers", expected="a RePS fit")
    other = problem.rejected.batch(batch.rows, problem.lm.device)
    n, m = batch.labels.sum(dim=1), other.labels.sum(dim=1)
    liked, disliked = (values[batch.rows].to(n.device) for values in problem.reference)
    forward = preference(
        likelihood(problem, batch, towards, on_strength), likelihood(problem, other, towards), (liked, disliked), (n, m)
    )
    back = preference(likelihood(problem, other, away), likelihood(problem, batch, away), (disliked, liked), (m, n))
    return forward + back


def drawn_factors(problem: Problem, n: int, draw: torch.Generator) -> Tensor | None:
    """The strengths that RePS trains at, one an example, drawn from those that will be used; None for the others."""
    if problem.objective != "RePS":
        return None
    known = torch.tensor(problem.settings.factors)
    return known[torch.randint(len(known), (n,), generator=draw)].to(problem.lm.device)


@torch.no_grad()
def reference_likelihoods(problem: Problem, data: TrainingSet) -> Tensor:
    """ℓ_ref of every answer of `data` under the unsteered model, [example] on the CPU."""
    values = torch.empty(len(data))
    for rows in data.length.argsort(stable=True).split(MEASURING_BATCH):
        values[rows] = likelihood(problem, data.batch(rows, problem.lm.device), {}).float().cpu()
    return values


@torch.no_grad()
def unsteered_errors(problem: Problem) -> Tensor:
    """What each example's objective is divided by before any mean: its MSE without steering, or 1 where the settings do not
    normalise or the objective is another. [example] fp64 on the CPU.
    """
    errors = torch.ones(len(problem.data), dtype=torch.float64)
    if problem.mse and problem.settings.normalise:
        for rows in problem.data.length.argsort(stable=True).split(MEASURING_BATCH):
            errors[rows] = squared_error(problem, problem.data.batch(rows, problem.lm.device), {}).double().cpu()
    return errors


def normalised(problem: Problem) -> Problem:
    """With what the MSE is divided by, where the settings ask for it: its mean without steering."""
    return replace(problem, scale=mean_error(unsteered_errors(problem)))


def mean_error(errors: Tensor) -> float:
    """The mean of unsteered `errors`, by which an MSE can be divided. Raises PsrError where it cannot."""
    mean = float(errors.mean())
    if not mean > 0 or mean == float("inf"):
        raise PsrError(
            "the MSE cannot be normalised",
            expected="instructed runs that differ from the plain ones",
            got=f"a mean unsteered MSE of {mean}",
            do="Look at the pairs, or turn `normalise` off.",
        )
    return mean


@torch.no_grad()
def never_opens(problem: Problem, params: Mapping[str, Tensor], own: Tensor) -> bool:
    """Whether every gate is closed on every span token of the examples `own` ([n] long), steered at α = 1."""
    used = {name: tensor.unsqueeze(1) for name, tensor in problem.form.settle(params).items()}
    for rows in own[problem.data.length[own].argsort(stable=True)].split(MEASURING_BATCH):
        batch = problem.data.batch(rows, problem.lm.device)
        _, opened = row_losses(problem, batch, used, torch.ones(len(rows), device=problem.lm.device))
        if opened is not None and not bool((opened <= 0).all()):
            return False
    return True
