"""The objective of one batch under steering: one forward over x y' (MSE, LL, KL), four for RePS.

    RePS = −log σ( s · ℓ(y' | +f)/|y'| − ℓ(y | +f)/|y| ) − log σ( s̄ · ℓ(y | −f)/|y| − ℓ(y' | −f)/|y'| )

steered by +f the wanted answer is preferred, by −f the plain one (arXiv:2505.20809); s and s̄ as in psr/fitting/objectives.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch
from psr.fitting.frozen import beginning_with, stream_of
from psr.fitting.objectives import (
    divergence,
    log_likelihood,
    mean_squared_error,
    negative_log_likelihood,
    preference,
    soft_alphas,
)
from psr.fitting.problem import Problem
from psr.fitting.teacher import logits_to_end
from psr.lm.recording import recorded
from psr.steering.hooks import Term, hooked

OnStrength = Callable[[int, Tensor, Tensor], None]
MEASURING_BATCH = 32  # batch size of passes without gradients; it changes no result


def terms(problem: Problem, params: Mapping[str, Tensor], alpha: Tensor) -> dict[int, list[Term]]:
    """One term a layer. params: what is used (settled), [layer, 1 or batch, *shape]; alpha: [batch]."""
    layers = {name: tensor.unbind(0) for name, tensor in params.items()}
    return {
        layer: [Term(problem.form, {name: parts[i] for name, parts in layers.items()}, alpha)]
        for i, layer in enumerate(problem.layers)
    }


def row_losses(
    problem: Problem, batch: Batch, used: Mapping[str, Tensor], factor: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The objective of each row, [batch], not normalised, and how far its gates opened, Σ_i λ: [layer · r, batch].

    used: settled, [layer, 1 or batch, *shape]. None for forms without gates.
    """
    opening: dict[int, Tensor] = {}

    def on_strength(layer: int, lam: Tensor, mask: Tensor) -> None:  # `mask` does not leave out right padding
        opening[layer] = lam.masked_fill(~batch.span.view(*batch.span.shape, *[1] * (lam.dim() - 2)), 0.0).sum(dim=1)

    settings = problem.settings
    alpha = soft_alphas(batch.trait, problem.mse and settings.soft_labels, settings.alpha_offset)
    losses = sequence_losses(problem, batch, used, alpha if factor is None else factor, on_strength)
    if not problem.form.gated:
        return losses, None
    return losses, torch.cat([opening[layer].view(len(batch.span), -1).T for layer in problem.layers])


def sequence_losses(
    problem: Problem, batch: Batch, params: Mapping[str, Tensor], alpha: Tensor, on_strength: OnStrength | None = None
) -> Tensor:
    """The objective of each sequence, [batch]. params: settled, [layer, 1 or batch, *shape] (one module for all rows, or
    one a row), or {} for no steering; alpha: [batch].
    """
    steering = terms(problem, params, alpha)
    if problem.mse:
        return squared_error(problem, batch, steering, on_strength)
    if problem.objective == "RePS":
        return _preference(problem, batch, params, alpha, on_strength)
    logits = _logits(problem, batch, steering, on_strength)
    labels = slice(batch.first_label, None)
    if problem.teacher is not None:
        return divergence(logits, problem.teacher.logits(batch), batch.labels[:, labels])
    return negative_log_likelihood(logits, batch.ids[:, labels], batch.labels[:, labels])


def squared_error(
    problem: Problem, batch: Batch, steering: Mapping[int, list[Term]], on_strength: OnStrength | None
) -> Tensor:
    lm = problem.lm
    with ExitStack() as stack:
        stack.enter_context(_shortened(problem, batch))
        stack.enter_context(hooked(lm.model, steering, batch.start, on_strength))
        A = stack.enter_context(recorded(lm.model, problem.seen))
        # no language-model head: the MSE ends at the last block
        lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    errors = [
        mean_squared_error(A[layer], target, batch.span)
        for layer, target in zip(problem.seen, problem.wanted(batch.place), strict=True)
    ]
    return torch.stack(errors).sum(dim=0)


def _shortened(problem: Problem, batch: Batch) -> AbstractContextManager[None]:
    """A forward that begins with what the lowest steered block returns unsteered, where the problem knows it."""
    if problem.frozen is None:
        return nullcontext()
    stream = stream_of(problem.frozen, batch, problem.lm.device)
    return beginning_with(problem.lm.model, problem.layers[0], stream)


def _logits(
    problem: Problem, batch: Batch, steering: Mapping[int, list[Term]], on_strength: OnStrength | None = None
) -> Tensor:
    """Logits only from the first position of the batch that predicts a label, [batch, token, vocabulary]."""
    steered = hooked(problem.lm.model, steering, batch.start, on_strength) if steering else nullcontext()
    with _shortened(problem, batch), steered:
        return logits_to_end(problem.lm, batch.ids, batch.attention, batch.first_label - 1)


def likelihood(
    problem: Problem, batch: Batch, steering: Mapping[int, list[Term]], on_strength: OnStrength | None = None
) -> Tensor:
    """ℓ of each answer, [batch]."""
    labels = slice(batch.first_label, None)
    return log_likelihood(_logits(problem, batch, steering, on_strength), batch.ids[:, labels], batch.labels[:, labels])


def _preference(
    problem: Problem, batch: Batch, params: Mapping[str, Tensor], factor: Tensor, on_strength: OnStrength | None
) -> Tensor:
    if problem.rejected is None or problem.reference is None:
        raise PsrError("RePS has no plain answers", expected="a RePS fit")
    other = problem.rejected.batch(batch.rows, problem.lm.device)
    n, m = batch.labels.sum(dim=1), other.labels.sum(dim=1)
    liked, disliked = (values[batch.rows].to(n.device) for values in problem.reference)
    towards, away = terms(problem, params, factor), terms(problem, params, -factor)
    forward = preference(
        likelihood(problem, batch, towards, on_strength), likelihood(problem, other, towards), (liked, disliked), (n, m)
    )
    back = preference(likelihood(problem, other, away), likelihood(problem, batch, away), (disliked, liked), (m, n))
    return forward + back
