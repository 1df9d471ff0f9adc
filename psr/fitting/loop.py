"""Fitting a steering module on a frozen model by gradients: one layer or all of them in one forward and one backward.

    loss = objective(steered run on x y') / mean unsteered MSE + 0.1 · Σ_l max(0, 1 − Σ_i λ[l,i])

The objectives are MSE, LL, KL and RePS (psr/fitting/objectives.py); only the MSE is divided, and only forms with a ReLU are
regularised, each gate by itself. MSE sums over every layer from the first steered one on: S at layer l sees l and all
later layers, A sees all layers, and each gate reads activations that the layers below have already changed (Heyman &
Vandeputte, ICML 2026, Section 3). The optimiser is AdamW with a learning rate that falls linearly to 0. Only z, w and b
get gradients, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch, epoch_batches
from psr.fitting.losses import MEASURING_BATCH, row_losses
from psr.fitting.objectives import dead_gates, dead_share
from psr.fitting.preparing import normalised, prepared, unsteered_mse
from psr.fitting.presets import FitSettings
from psr.fitting.problem import Problem, pose
from psr.fitting.stores import Store
from psr.fitting.warm_start import leading_directions
from psr.steering.forms import init_params
from psr.steering.module import SteeringModule
from psr.types import CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

Params = dict[str, Tensor]
Course = Generator[tuple[Tensor, Tensor | None], Any, tuple[CurvePoint, ...]]
__all__ = ["Diverged", "Fitted", "batch_loss", "check_finite", "fit", "initial_params", "unsteered_mse"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted module and its training curve, one point an epoch (shorter than `epochs` when it stopped early).

    dead: every gate ended closed on every training token, so that the module does nothing; origin says so too.
    """

    module: SteeringModule
    curve: tuple[CurvePoint, ...]
    dead: bool = False


class Diverged(PsrError):
    """Fitting left the finite numbers. `last_good`: the module as it was after the last epoch that stayed finite (its
    start, if there was none); origin["stopped"] says when that was.
    """

    last_good: SteeringModule


def fit(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    *,
    targets: Store | None = None,
    module_id: str,
    origin: Mapping[str, Any] | None = None,
    frozen_once: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    """Fit `method` at `layers` on `examples`.

    targets: the instructed runs of the same examples in the same order, recorded at least at every layer from
    min(layers) on; None: recorded here first (MSE), the other objectives need none. frozen_once: run the blocks up to
    min(layers) once an example and not once a step, where memory and model allow it (psr/fitting/frozen.py); the same up to
    rounding, and cheaper the higher the layer. progress(n) is called after each
    step with the examples in it, `settings.epochs · len(examples)` in all. Same seed, same module, bit for bit.
    Raises PsrError when there is no example or the layers or targets do not fit, Diverged when training does.
    """
    problem = normalised(prepared(pose(lm, examples, method, layers, settings, targets), frozen_once))
    params, made = started(problem, module_id, method, origin)
    curve = _train(problem, params, progress, made)
    return finished(problem, torch.arange(len(examples)), params, curve, made)


def started(
    problem: Problem, module_id: str, method: Method, origin: Mapping[str, Any] | None
) -> tuple[Params, Callable[..., SteeringModule]]:
    """Fresh parameters with gradients on the model's device, and what makes a module of them (and more for its origin)."""
    lm = problem.lm
    params = {name: tensor.to(lm.device).requires_grad_() for name, tensor in initial_params(problem).items()}
    told = {
        **(origin or {}),
        "method": method.slug,
        "settings": asdict(problem.settings),
        "examples": len(problem.examples),
    }

    def made(params: Mapping[str, Tensor], **more: Any) -> SteeringModule:
        with torch.no_grad():
            used = problem.form.settle(params)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in used.items()}
        return SteeringModule(
            id=module_id,
            form=method.form,
            layers=problem.layers,
            span=method.span,
            model=lm.fingerprint,
            tensors=tensors,
            origin={**told, **more},
        )

    return params, made


def finished(
    problem: Problem, own: Tensor, params: Params, curve: tuple[CurvePoint, ...], made: Callable[..., SteeringModule]
) -> Fitted:
    """The module with its curve, marked when no gate opens on any of the examples `own`."""
    dead = problem.form.gated and curve[-1].dead > 0 and never_opens(problem, params, own)
    return Fitted(made(params, **({"dead": True} if dead else {})), curve, dead)


def initial_params(problem: Problem) -> Params:
    """Fresh fp32 parameters [layer, *shape] from the settings' seed (`init` says how)."""
    generator = torch.Generator().manual_seed(problem.settings.seed)
    layers, d = len(problem.layers), problem.lm.d_model
    if problem.settings.init == "small":
        return {
            name: 0.01 * torch.randn((layers, *shape), generator=generator) * (name != "b")
            for name, shape in problem.form.shapes(d).items()
        }
    params = init_params(problem.form, layers, d, generator)
    if problem.settings.init == "delta":
        z = leading_directions(problem.lm, problem.examples, problem.layers, problem.form.rank)
        params["z"] = z.reshape(params["z"].shape).contiguous()
    return params


def _train(
    problem: Problem, params: Params, progress: Callable[[int], None] | None, made: Callable[..., SteeringModule]
) -> tuple[CurvePoint, ...]:
    steps, parts = course(problem, torch.arange(len(problem.data)), params, made), None
    while True:
        try:
            rows, factor = steps.send(parts)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        loss, parts = batch_loss(problem, problem.data.batch(rows, problem.lm.device), params, factor)
        loss.backward()
        if progress is not None:
            progress(len(rows))


def course(problem: Problem, own: Tensor, params: Params, made: Callable[..., SteeringModule]) -> Course:
    """One fit on the examples `own` ([n] long) of problem.data: its batches, its schedule, its curve.

    Yields the next batch's rows with RePS's factors; whoever drives it computes the gradients of `params` (into .grad) and
    sends the batch's [4] parts (`batch_loss`). Returns the curve. Raises Diverged.
    """
    settings, length = problem.settings, problem.data.length[own]
    steps = settings.epochs * -(-len(own) // settings.batch_size)
    optimiser = torch.optim.AdamW(params.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / steps))
    shuffle, draw = (torch.Generator().manual_seed(settings.seed) for _ in range(2))
    curve: list[CurvePoint] = []
    good = {name: tensor.detach().clone() for name, tensor in params.items()}
    for epoch in range(1, settings.epochs + 1):
        seen, sizes = [], []
        for rows in epoch_batches(length, settings.batch_size, shuffle):
            optimiser.zero_grad(set_to_none=True)
            seen.append((yield own[rows], _factors(problem, len(rows), draw)))
            optimiser.step()
            schedule.step()
            sizes.append(len(rows))
        stacked = torch.stack(seen).cpu()
        check_finite(epoch, stacked, params, lambda: made(good, stopped={"epoch": epoch - 1}))  # noqa: B023
        curve.append(_point(epoch, stacked, torch.tensor(sizes)))
        good = {name: tensor.detach().clone() for name, tensor in params.items()}
        if settings.stop_below is not None and curve[-1].objective < settings.stop_below:
            break
    return tuple(curve)


def _factors(problem: Problem, n: int, draw: torch.Generator) -> Tensor | None:
    """The strengths that RePS trains at, one an example, drawn from those that will be used; None for the others."""
    if problem.objective != "RePS":
        return None
    known = torch.tensor(problem.settings.factors)
    return known[torch.randint(len(known), (n,), generator=draw)].to(problem.lm.device)


def check_finite(epoch: int, parts: Tensor, params: Params, last_good: Callable[[], SteeringModule]) -> None:
    """Raise Diverged unless every loss and parameter is finite. parts: [step, 4].

    Called once an epoch: no step waits for the device.
    """
    finite = torch.isfinite(parts[:, 0])
    if bool(finite.all()) and all(bool(torch.isfinite(tensor).all()) for tensor in params.values()):
        return
    step = len(parts) if bool(finite.all()) else int((~finite).nonzero()[0]) + 1
    got = "parameters that are not" if bool(finite.all()) else float(parts[step - 1, 0])
    error = Diverged(
        "fitting diverged",
        where=f"step {step} of {len(parts)} in epoch {epoch}",
        expected="a finite loss",
        got=got,
        do="Lower the learning rate, or use a wider dtype.",
    )
    error.last_good = last_good()
    raise error


def _point(epoch: int, parts: Tensor, sizes: Tensor) -> CurvePoint:
    """The epoch's means over examples. parts: [step, 4]."""
    loss, objective, regulariser, dead = ((parts.double() * sizes.unsqueeze(-1)).sum(dim=0) / sizes.sum()).tolist()
    return CurvePoint(epoch, loss, objective, regulariser, dead)


def batch_loss(problem: Problem, batch: Batch, params: Params, factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and [loss, objective, regulariser without its weight, dead share] without gradients.

    alpha is the batch's soft labels (MSE), `factor` ([batch], RePS), or 1.
    """
    used = {name: tensor.unsqueeze(1) for name, tensor in problem.form.settle(params).items()}
    losses, opened = row_losses(problem, batch, used, factor)
    objective = losses.mean() / problem.scale
    if opened is None:
        nothing = torch.zeros_like(objective)
        return objective, torch.stack([objective, objective, nothing, nothing]).detach()
    regulariser = dead_gates(opened).mean()
    weight = problem.settings.regulariser
    loss = objective + weight * regulariser if weight else objective
    return loss, torch.stack([loss, objective, regulariser, dead_share(opened)]).detach()


@torch.no_grad()
def never_opens(problem: Problem, params: Params, own: Tensor) -> bool:
    """Whether every gate is closed on every span token of the examples `own` ([n] long), steered at α = 1."""
    still = replace(problem, settings=replace(problem.settings, soft_labels=False, alpha_offset=0.0))
    for rows in own[problem.data.length[own].argsort(stable=True)].split(MEASURING_BATCH):
        batch = problem.data.batch(rows, problem.lm.device)
        _, parts = batch_loss(still, batch, params, torch.ones(len(rows), device=problem.lm.device))
        if float(parts[3]) < 1:
            return False
    return True
