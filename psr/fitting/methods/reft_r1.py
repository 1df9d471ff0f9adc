"""ReFT-r1 (Wu et al. 2025, "AxBench", arXiv:2501.17148): a unit direction whose gate works in training only.

    training   A' = A + mean(TopK_8(a)) · v,   a_i = ReLU(A_i · v) over the span,   ‖v‖ = 1
               loss = LL + c · mean of the a_i outside the top k,   c rises linearly from 0 to 0.005 over the steps
    each step  clip the gradient to length 1, normalise v, remove the gradient parallel to v, AdamW step, normalise v
    steering   A' = A + α · max_act · v,   max_act = the largest a on the detection examples

Settings: lr 0.01 falling linearly to 0, 3 epochs, batches of 6 (presets.REFT_R1). Code: stanfordnlp/axbench,
models/lsreft.py. Its detection examples are the unsteered runs of the training conversations here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch, TrainingSet, epoch_batches, training_set
from psr.fitting.checks import check_examples, checked_layers
from psr.fitting.loop import Fitted, adamw, check_finite
from psr.fitting.methods.contract import Learning
from psr.fitting.objectives.ll import negative_log_likelihood
from psr.fitting.presets import REFT_R1 as SETTINGS
from psr.fitting.presets import FitSettings
from psr.fitting.request import FitRequest
from psr.fitting.teacher import logits_to_end
from psr.lm.recording import record
from psr.steering.forms import Form, Params
from psr.steering.hooks import Term, hooked
from psr.steering.module import SteeringModule
from psr.types import CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

TOP, COEFFICIENT, CLIP = 8, 0.005, 1.0


def fit_reft_r1(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    settings: FitSettings = SETTINGS,
    *,
    module_id: str,
    top: int = TOP,
    coefficient: float = COEFFICIENT,
    clip: float = CLIP,
    origin: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    """A Const module at one layer, z = max_act · v. Of `settings` epochs, batch_size, lr, weight_decay, seed and
    label_span count. The curve's regulariser is the mean latent outside the top k, its dead the share of closed sequences.

    Raises PsrError for bad options, Diverged when training does. A direction that no token reaches is reported as dead.
    """
    check_options(top, coefficient, clip)
    (layer,) = checked_layers(lm, method, layers)
    check_examples(lm, examples, method)
    data = training_set(examples, settings.label_span, lm.pad_id)
    about = {**(origin or {}), "method": method.slug, "settings": asdict(settings), "examples": len(examples)}

    def module(v: Tensor, **more: Any) -> SteeringModule:
        max_act = largest_latent(lm, examples, layer, v)
        return SteeringModule(
            id=module_id,
            form="Const",
            layers=(layer,),
            span=method.span,
            model=lm.fingerprint,
            tensors={"z": max_act * v.cpu().unsqueeze(0)},
            origin={**about, "max_act": max_act, **more},
        )

    v, curve = _train(Fit(lm, data, layer, settings, top, coefficient, clip), module, progress)
    dead = largest_latent(lm, examples, layer, v) <= 0
    return Fitted(module(v, **({"dead": True} if dead else {})), curve, dead)


@dataclass(frozen=True, eq=False)
class Fit:
    """One fit and its options."""

    lm: LanguageModel
    data: TrainingSet
    layer: int
    settings: FitSettings
    top: int
    coefficient: float
    clip: float


def _train(
    fit: Fit, module: Callable[..., SteeringModule], progress: Callable[[int], None] | None
) -> tuple[Tensor, tuple[CurvePoint, ...]]:
    settings, data, device = fit.settings, fit.data, fit.lm.device
    generator = torch.Generator().manual_seed(settings.seed)
    v = torch.randn(fit.lm.d_model, generator=generator).to(device)
    v = (v / v.norm()).requires_grad_()
    kept = v.detach().clone()
    step, steps = 0, settings.epochs * -(-len(data) // settings.batch_size)
    optimiser, schedule = adamw([v], settings, len(data))
    curve: list[CurvePoint] = []
    for epoch in range(1, settings.epochs + 1):
        parts: list[Tensor] = []
        for rows in epoch_batches(data.length, settings.batch_size, generator):
            objective, idle, dead = losses(fit.lm, data.batch(rows, device), fit.layer, v, fit.top)
            loss = objective + fit.coefficient * step / steps * idle
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            descend(v, optimiser, fit.clip)
            schedule.step()
            step += 1
            parts.append(torch.stack([loss, objective, idle, dead]).detach() * len(rows))
            if progress is not None:
                progress(len(rows))
        stacked = torch.stack(parts).cpu()
        check_finite(epoch, stacked, {"v": v}, partial(module, kept, stopped={"epoch": epoch - 1}))
        curve.append(CurvePoint(epoch, *(stacked.double().sum(dim=0) / len(data)).tolist()))
        kept = v.detach().clone()
    return v.detach(), tuple(curve)


def losses(lm: LanguageModel, batch: Batch, layer: int, v: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """LL, the mean latent outside the top k, and the share of sequences without any latent; [] each. v: [d]."""
    latents: list[Tensor] = []

    def strength(A: Tensor, p: Params) -> Tensor:
        a = torch.relu(A @ p["z"][0]).masked_fill(~batch.span, 0.0)
        latents.append(a)
        best = a.topk(min(top, a.shape[1]), dim=1).values
        counted = batch.span.sum(dim=1).clamp_max(top)  # a span may be shorter than k
        return (best.sum(dim=1) / counted).unsqueeze(-1).expand_as(a)

    form = Form("ReFT-r1", lambda d: {"z": (d,)}, strength)
    with hooked(lm.model, {layer: [Term(form, {"z": v.unsqueeze(0)}, torch.ones(1, device=v.device))]}, batch.start):
        logits = logits_to_end(lm, batch.ids, batch.attention, batch.first_label - 1)
    labels = slice(batch.first_label, None)
    objective = negative_log_likelihood(logits, batch.ids[:, labels], batch.labels[:, labels]).mean()
    (a,) = latents
    idle = a.scatter(1, a.topk(min(top, a.shape[1]), dim=1).indices, 0.0)
    mean = idle.sum(dim=1) / batch.span.sum(dim=1)
    return objective, mean.mean(), (a.sum(dim=1) <= 0).float().mean()


@torch.no_grad()
def descend(v: Tensor, optimiser: torch.optim.Optimizer, clip: float) -> None:
    """One step on the unit sphere. v: [d] with its gradient."""
    torch.nn.utils.clip_grad_norm_([v], clip)
    if v.grad is not None:
        v.grad -= (v.grad @ v) * v
    optimiser.step()
    v /= v.norm()


def largest_latent(lm: LanguageModel, examples: Sequence[Example], layer: int, v: Tensor) -> float:
    """max_act: the largest ReLU(A · v) on the span of the unsteered runs of x y'."""
    plain = record(
        lm,
        [one.tokens.plain_ids for one in examples],
        [one.tokens.plain_start for one in examples],
        (layer,),
        span=examples[0].tokens.span,
    )
    return max(0.0, float((plain.values[0] @ v.cpu()).max()))


def check_options(top: int, coefficient: float, clip: float) -> None:
    for name, value, good, expected in (
        ("top", top, top >= 1, "a whole number of at least 1"),
        ("coefficient", coefficient, coefficient >= 0, "a number of at least 0"),
        ("clip", clip, clip > 0, "a positive number"),
    ):
        if not good:
            raise PsrError(
                "a fit setting makes no sense", where=name, expected=expected, got=repr(value), do="Correct it."
            )


def _learn(request: FitRequest) -> Fitted:
    return fit_reft_r1(
        request.lm, request.examples, request.method, request.layers, request.settings or SETTINGS,
        module_id=request.module_id, origin=request.origin, progress=request.progress,
    )  # fmt: skip


REFT_R1 = Learning(
    _learn,
    presets={"paper": SETTINGS, "fast": SETTINGS},
    changes=("seed",),  # its authors' schedule
    fits_likelihoods=True,
)
