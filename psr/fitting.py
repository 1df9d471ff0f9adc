"""Fitting a steering module on a frozen model: MSE or LL, one layer or all of them in one forward and one backward.

    loss = objective(steered run on x y') / mean unsteered MSE + 0.1 · Σ_l max(0, 1 − Σ_i λ[l,i])

MSE sums over every layer from the first steered one on: S at layer l sees l and all later layers, A sees all layers,
and each gate reads activations that the layers below have already changed (Heyman & Vandeputte, ICML 2026, Section 3).
The optimiser is AdamW with a learning rate that falls linearly to 0. Only z, w and b get gradients, in fp32.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.batches import Batch, epoch_batches
from psr.errors import PsrError
from psr.forms import init_params
from psr.module import SteeringModule
from psr.objectives import dead_gates, dead_share, mean_squared_error, negative_log_likelihood, soft_alphas
from psr.presets import FitSettings
from psr.problem import Problem, pose
from psr.recording import Targets, recorded
from psr.steering import Term, hooked
from psr.types import CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.models import LanguageModel

Params = dict[str, Tensor]
MEASURING_BATCH = 32  # batch size of passes without gradients; it changes no result


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted module and its training curve, one point an epoch (shorter than `epochs` when it stopped early)."""

    module: SteeringModule
    curve: tuple[CurvePoint, ...]


def fit(
    lm: LanguageModel, examples: Sequence[Example], method: Method, layers: tuple[int, ...], settings: FitSettings, *,
    targets: Targets | None = None, module_id: str, origin: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    """Fit `method` at `layers` on `examples`.

    targets: the instructed runs of the same examples in the same order, recorded at least at every layer from
    min(layers) on; None: recorded here first (MSE), LL needs none. progress(n) is called after each step with the
    examples in it, `settings.epochs · len(examples)` in all. Same seed, same module, bit for bit.
    Raises PsrError when there is no example, the layers or targets do not fit, or training diverges.
    """
    problem = pose(lm, examples, method, layers, settings, targets)
    if problem.mse and settings.normalise:
        problem = replace(problem, scale=unsteered_mse(problem))
    params = {name: tensor.to(lm.device).requires_grad_() for name, tensor in initial_params(problem).items()}
    curve = _train(problem, params, progress)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in params.items()}
    told = {**(origin or {}), "method": method.slug, "settings": asdict(settings), "examples": len(examples)}
    module = SteeringModule(id=module_id, form=method.form, layers=problem.layers, span=method.span,
                            model=lm.fingerprint, tensors=tensors, origin=told)
    return Fitted(module, curve)


def initial_params(problem: Problem) -> Params:
    """Fresh fp32 parameters [layer, *shape] from the settings' seed: uniform ±1/√d, or 0.01 · normal with b = 0."""
    generator = torch.Generator().manual_seed(problem.settings.seed)
    layers, d = len(problem.layers), problem.lm.d_model
    if problem.settings.init == "uniform":
        return init_params(problem.form, layers, d, generator)
    return {name: 0.01 * torch.randn((layers, *shape), generator=generator) * (name != "b")
            for name, shape in problem.form.shapes(d).items()}


def _train(problem: Problem, params: Params, progress: Callable[[int], None] | None) -> tuple[CurvePoint, ...]:
    settings, data = problem.settings, problem.data
    steps = settings.epochs * -(-len(data) // settings.batch_size)
    optimiser = torch.optim.AdamW(params.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / steps))
    shuffle = torch.Generator().manual_seed(settings.seed)
    curve: list[CurvePoint] = []
    for epoch in range(1, settings.epochs + 1):
        seen, sizes = [], []
        for rows in epoch_batches(data.length, settings.batch_size, shuffle):
            optimiser.zero_grad(set_to_none=True)
            loss, parts = batch_loss(problem, data.batch(rows, problem.lm.device), params)
            loss.backward()
            optimiser.step()
            schedule.step()
            seen.append(parts)
            sizes.append(len(rows))
            if progress is not None:
                progress(len(rows))
        curve.append(_point(epoch, torch.stack(seen).cpu(), torch.tensor(sizes)))
        if settings.stop_below is not None and curve[-1].objective < settings.stop_below:
            break
    return tuple(curve)


def _point(epoch: int, parts: Tensor, sizes: Tensor) -> CurvePoint:
    """The epoch's means over examples. parts: [step, 4]. Checked once an epoch: no step waits for the device."""
    finite = torch.isfinite(parts[:, 0])
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0]) + 1
        raise PsrError("fitting diverged", where=f"step {step} of {len(parts)} in epoch {epoch}",
                       expected="a finite loss", got=float(parts[step - 1, 0]),
                       do="Lower the learning rate, or use a wider dtype.")
    loss, objective, regulariser, dead = ((parts.double() * sizes.unsqueeze(-1)).sum(dim=0) / sizes.sum()).tolist()
    return CurvePoint(epoch, loss, objective, regulariser, dead)


def batch_loss(problem: Problem, batch: Batch, params: Params) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and [loss, objective, regulariser without its weight, dead share] without gradients."""
    opening: dict[int, Tensor] = {}

    def on_strength(layer: int, lam: Tensor, mask: Tensor) -> None:
        opening[layer] = lam.masked_fill(~batch.span, 0.0).sum(dim=1)  # `mask` does not leave out right padding

    objective = _run(problem, batch, _terms(problem, batch, params), on_strength).mean() / problem.scale
    opened = torch.stack([opening[layer] for layer in problem.layers])
    regulariser = dead_gates(opened).mean()
    loss = objective + problem.settings.regulariser * regulariser if problem.settings.regulariser else objective
    return loss, torch.stack([loss, objective, regulariser, dead_share(opened)]).detach()


def _terms(problem: Problem, batch: Batch, params: Params) -> dict[int, list[Term]]:
    """One term a layer, with this batch's soft labels as alpha (MSE) or alpha = 1 (LL)."""
    settings = problem.settings
    alpha = soft_alphas(batch.trait, problem.mse and settings.soft_labels, settings.alpha_offset)
    layers = {name: tensor.unsqueeze(1).unbind(0) for name, tensor in params.items()}
    return {layer: [Term(problem.form, {name: parts[i] for name, parts in layers.items()}, alpha)]
            for i, layer in enumerate(problem.layers)}


def _run(
    problem: Problem, batch: Batch, terms: Mapping[int, Sequence[Term]],
    on_strength: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """One forward over x y', steered by `terms`: the objective of each sequence, [batch]."""
    lm = problem.lm
    inputs: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    with ExitStack() as stack:
        stack.enter_context(hooked(lm.model, terms, batch.start, on_strength))
        if not problem.mse:
            return _likelihood(lm, batch, inputs)
        A = stack.enter_context(recorded(lm.model, problem.seen))
        lm.base(**inputs)  # no language-model head: the MSE ends at the last block
    errors = [mean_squared_error(A[layer], target, batch.span)
              for layer, target in zip(problem.seen, problem.wanted(batch.place), strict=True)]
    return torch.stack(errors).sum(dim=0)


def _likelihood(lm: LanguageModel, batch: Batch, inputs: dict[str, Any]) -> Tensor:
    """LL of each sequence; logits only from the first position of the batch that predicts a label."""
    keep = batch.ids.shape[1] - batch.first_label + 1
    if "logits_to_keep" in inspect.signature(lm.model.forward).parameters:
        inputs["logits_to_keep"] = keep
    logits = lm.model(**inputs).logits[:, -keep:-1]
    labels = slice(batch.first_label, None)
    return negative_log_likelihood(logits, batch.ids[:, labels], batch.labels[:, labels])


def unsteered_mse(problem: Problem) -> float:
    """The mean MSE over the training set without any steering, by which the normalised MSE is divided."""
    total = 0.0
    with torch.no_grad():
        for rows in problem.data.length.argsort(stable=True).split(MEASURING_BATCH):
            total += float(_run(problem, problem.data.batch(rows, problem.lm.device), {}).double().sum())
    mean = total / len(problem.data)
    if not mean > 0 or mean == float("inf"):
        raise PsrError("the MSE cannot be normalised", expected="instructed runs that differ from the plain ones",
                       got=f"a mean unsteered MSE of {mean}", do="Look at the pairs, or turn `normalise` off.")
    return mean
