"""Fitting a steering module on a frozen model by gradients: one layer or all of them in one forward and one backward.

    loss = objective(steered run on x y') / its mean without steering + 0.1 · Σ_l max(0, 1 − Σ_i λ[l,i])

The objectives stand in psr/fitting/objectives, one a file; of those only the MSE is divided, and only forms with a ReLU are
regularised (psr/fitting/losses.py). Each gate reads activations that the layers below have already changed (Heyman &
Vandeputte, ICML 2026, Section 3). The optimiser is AdamW with a learning rate that falls linearly to 0. Only z, w and b get
gradients, in fp32.

This file in order: `fit`, from examples to a module; `pose`, the checks and what the frozen model gives once; `steps`, the
epochs and batches; `batch_loss`; what comes out. Many fits in one pass take the same steps (psr/fitting/joint.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch, epoch_batches, training_set
from psr.fitting.checks import check_examples, check_form, check_kept, check_targets, checked_layers
from psr.fitting.frozen import frozen_stream
from psr.fitting.initial import initial_params
from psr.fitting.losses import dead_gates, dead_share, never_opens, normalised, row_losses
from psr.fitting.objectives import objective_named
from psr.fitting.presets import FitSettings
from psr.fitting.problem import Objective, Problem
from psr.fitting.stores import Store, targets_within
from psr.steering.module import SteeringModule
from psr.types import INSTRUCTED, CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

Params = dict[str, Tensor]


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
    objective: Objective | None = None,
    targets: Store | None = None,
    module_id: str,
    origin: Mapping[str, Any] | None = None,
    frozen_once: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    """Fit `method` at `layers` on `examples`.

    objective: None: the registered one of the method's name. targets: the instructed runs of the same examples in the same
    order, recorded at least at every layer from min(layers) on; None: recorded here first, where the objective reads them
    (MSE). frozen_once: run the blocks up to
    min(layers) once an example and not once a step, where memory and model allow it (psr/fitting/frozen.py); the same up to
    rounding, and cheaper the higher the layer. progress(n) is called after each step with the examples in it,
    `settings.epochs · len(examples)` in all. Same seed, same module, bit for bit.
    Raises PsrError when there is no example or the layers or targets do not fit, Diverged when training does.
    """
    check_kept(examples, settings)
    problem = normalised(pose(lm, examples, method, layers, settings, targets, frozen_once, objective))
    run = begun(problem, torch.arange(len(examples)), module_id, origin)
    for rows, alpha in steps(run):
        loss, parts = batch_loss(problem, problem.data.batch(rows, lm.device), run.params, alpha)
        loss.backward()
        run.parts.append(parts)
        if progress is not None:
            progress(len(rows))
    return ended(run)


def pose(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    settings: FitSettings,
    targets: Store | None,
    frozen_once: bool = False,
    objective: Objective | None = None,
) -> Problem:
    """Everything checked, the examples padded, and what the objective needs of the frozen model taken once: no step changes it.

    Raises PsrError when there is no example, or the layers, examples or targets do not fit the method or the model.
    """
    objective = objective or objective_named(method.objective)
    lm.check_adapters()
    ordered = checked_layers(lm, method, layers)
    check_form(lm, method, objective, settings)
    data = training_set(examples, objective.label_span or settings.label_span, lm.pad_id)
    check_examples(lm, examples, method)
    problem = Problem(lm, tuple(examples), data, method, objective, ordered, settings)
    if INSTRUCTED in objective.reads:
        if targets is None:
            targets = targets_within(lm, problem.examples, problem.seen, method.span)
        check_targets(targets, lm.fingerprint, problem.seen, method.span, [one.tokens.length for one in examples])
        problem = replace(problem, targets=targets)
    problem = replace(problem, prepared=objective.prepare(problem))
    if frozen_once and objective.from_frozen:
        problem = replace(problem, frozen=frozen_stream(lm, data, ordered[0]))
    return problem


@dataclass(eq=False)
class Run:
    """One fit under way. own: its examples among the problem's, [n]; params: what is fitted, fp32 with gradients,
    [layer, *shape] on the model's device; parts: what `batch_loss` gave at each step of this epoch, [4]; curve: so far.
    """

    problem: Problem
    own: Tensor
    params: Params
    module_id: str
    origin: Mapping[str, Any]
    parts: list[Tensor] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)

    def module(self, params: Mapping[str, Tensor], **more: Any) -> SteeringModule:
        """The module that `params` are, with `more` in its origin."""
        problem, method = self.problem, self.problem.method
        with torch.no_grad():
            used = problem.form.settle(params)
        return SteeringModule(
            id=self.module_id,
            form=method.form,
            layers=problem.layers,
            span=method.span,
            model=problem.lm.fingerprint,
            tensors={name: tensor.detach().cpu().contiguous() for name, tensor in used.items()},
            origin={**self.origin, **more},
        )


def begun(problem: Problem, own: Tensor, module_id: str, origin: Mapping[str, Any] | None) -> Run:
    """A fit on the examples `own` before its first step."""
    params = {name: tensor.to(problem.lm.device).requires_grad_() for name, tensor in initial_params(problem).items()}
    settings = asdict(problem.settings)
    about = {"method": problem.method.slug, "settings": settings, "examples": len(problem.examples)}
    return Run(problem, own, params, module_id, {**(origin or {}), **about})


def steps(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """Every epoch and batch of a fit. Yields a batch's rows and their α, [batch] on the CPU; whoever takes them leaves the
    gradients in `run.params` and the [4] parts of the loss in `run.parts`, and asking for the next batch takes the step.

    Raises Diverged, with the parameters that were kept after the last good epoch.
    """
    problem, settings, params = run.problem, run.problem.settings, run.params
    optimiser, schedule = adamw(params.values(), settings, len(run.own))
    shuffle, draw = (torch.Generator().manual_seed(settings.seed) for _ in range(2))
    kept = {name: tensor.detach().clone() for name, tensor in params.items()}
    for epoch in range(1, settings.epochs + 1):
        run.parts, sizes = [], []
        for rows in epoch_batches(problem.data.length[run.own], settings.batch_size, shuffle):
            optimiser.zero_grad(set_to_none=True)
            own = run.own[rows]
            yield own, problem.objective.strengths(settings, problem.data.trait[own], draw)
            optimiser.step()
            schedule.step()
            sizes.append(len(rows))
        parts = torch.stack(run.parts).cpu()
        check_finite(epoch, parts, params, partial(run.module, kept, stopped={"epoch": epoch - 1}))
        run.curve.append(_mean(epoch, parts, torch.tensor(sizes)))
        kept = {name: tensor.detach().clone() for name, tensor in params.items()}
        if settings.stop_below is not None and run.curve[-1].objective < settings.stop_below:
            break


def adamw(
    params: Iterable[Tensor], settings: FitSettings, n: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """The optimiser, and its learning rate that falls linearly to 0 over all steps on `n` examples."""
    total = settings.epochs * -(-n // settings.batch_size)
    optimiser = torch.optim.AdamW(params, lr=settings.lr, weight_decay=settings.weight_decay)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / total))


def batch_loss(problem: Problem, batch: Batch, params: Params, alpha: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and [loss, objective, regulariser without its weight, dead share] without gradients.

    alpha: [batch], of `steps`; None: as a fit's first step on this batch draws it.
    """
    if alpha is None:
        draw = torch.Generator().manual_seed(problem.settings.seed)
        alpha = problem.objective.strengths(problem.settings, batch.trait, draw)
    used = {name: tensor.unsqueeze(1) for name, tensor in problem.form.settle(params).items()}
    losses, opened = row_losses(problem, batch, used, alpha.to(problem.lm.device), problem.scale)
    objective = losses.mean() / problem.scale
    if opened is None:
        nothing = torch.zeros_like(objective)
        return objective, torch.stack([objective, objective, nothing, nothing]).detach()
    regulariser = dead_gates(opened).mean()
    weight = problem.settings.regulariser
    loss = objective + weight * regulariser if weight else objective
    return loss, torch.stack([loss, objective, regulariser, dead_share(opened)]).detach()


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


def _mean(epoch: int, parts: Tensor, sizes: Tensor) -> CurvePoint:
    """The epoch's means over examples. parts: [step, 4]."""
    loss, objective, regulariser, dead = ((parts.double() * sizes.unsqueeze(-1)).sum(dim=0) / sizes.sum()).tolist()
    return CurvePoint(epoch, loss, objective, regulariser, dead)


def ended(run: Run) -> Fitted:
    """The module of a fit after its last step, marked when no gate opens on any of its examples."""
    dead = run.problem.form.gated and run.curve[-1].dead > 0 and never_opens(run.problem, run.params, run.own)
    return Fitted(run.module(run.params, **({"dead": True} if dead else {})), tuple(run.curve), dead)
