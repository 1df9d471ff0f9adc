"""LoRA and full fine-tuning on the same triplets: the outer reference that steering is compared with.

    LoRA    W' = W + α · (lora_alpha / r) · B A      on every linear map of the blocks (Hu et al. 2021), by `peft`
    Full    θ' = θ + α · (θ* − θ)                     θ* the fine-tuned weights; α between 0 and 1 interpolates
    loss    −log p(y' | x), mean over the response's labels

The contract is the modules': fit → Adapter (psr/steering/adapter.py) → context manager → save and load. Two things differ:
weights change, so an adapter acts on every token and not on a span, and on every row of a batch alike, never per row. `peft`
is an optional extra and is imported when a LoRA is fitted or used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.fitting.batches import Batch, TrainingSet, epoch_batches, training_set
from psr.fitting.checks import check_examples
from psr.fitting.loop import adamw
from psr.fitting.methods.contract import Learning
from psr.fitting.objectives.ll import negative_log_likelihood
from psr.fitting.presets import FAST_ADAPTER, FitSettings
from psr.fitting.request import FitRequest
from psr.fitting.teacher import logits_to_end
from psr.lm.fingerprints import akin
from psr.steering.adapter import RANK, Adapter
from psr.steering.module import check_alpha
from psr.types import CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Adapted:
    """A fitted adapter and its training curve. `dead` is there for the modules' sake: weights have no gates."""

    module: Adapter
    curve: tuple[CurvePoint, ...]
    dead: bool = False


class AdapterDiverged(PsrError):
    """Fitting left the finite numbers. `last_good`: the adapter after the last epoch that stayed finite; None: there is none."""

    last_good: Adapter | None = None


def default_settings(method: Method) -> FitSettings:
    """LoRA at 1e-3, full fine-tuning at a tenth of it."""
    return FAST_ADAPTER if method.form.startswith("LoRA") else replace(FAST_ADAPTER, lr=FAST_ADAPTER.lr / 10)


def learning(method: Method) -> Learning:
    """How LoRA and full fine-tuning are learnt."""
    settings = default_settings(method)
    return Learning(_learn, presets={"paper": settings, "fast": settings}, fits_likelihoods=True)


def _learn(request: FitRequest) -> Adapted:
    return fit_adapter(
        request.lm, request.examples, request.method, request.settings or default_settings(request.method),
        module_id=request.module_id, origin=request.origin, progress=request.progress,
    )  # fmt: skip


def fit_adapter(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    settings: FitSettings,
    *,
    module_id: str,
    origin: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Adapted:
    """Fit LoRA or all weights to the examples' answers; `lm` is as before afterwards, bit for bit.

    Of the settings epochs, batch_size, lr, weight_decay, seed, label_span and stop_below count.
    Raises PsrError for bad examples or without `peft`, AdapterDiverged when training leaves the finite numbers.
    """
    check_examples(lm, examples, method)
    data = training_set(examples, settings.label_span, lm.pad_id)
    rank = int(method.form[4:] or RANK) if method.form.startswith("LoRA") else 0
    form = f"LoRA{rank}" if rank else "Full"
    about = {**(origin or {}), "method": method.slug, "settings": asdict(settings), "examples": len(examples)}

    def adapter(tensors: Mapping[str, Tensor]) -> Adapter:
        return Adapter(module_id, form, lm.fingerprint, tensors, about)

    with _lora(lm.model, rank, settings.seed) if rank else _own_weights(lm.model) as parameters:
        curve = _train(lm, data, parameters, settings, adapter, progress)
        return Adapted(adapter(_copies(parameters)), curve)


def _copies(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in parameters.items()}


def _train(
    lm: LanguageModel,
    data: TrainingSet,
    parameters: Mapping[str, nn.Parameter],
    settings: FitSettings,
    adapter: Callable[[Mapping[str, Tensor]], Adapter],
    progress: Callable[[int], None] | None,
) -> tuple[CurvePoint, ...]:
    optimiser, schedule = adamw(parameters.values(), settings, len(data))
    shuffle = torch.Generator().manual_seed(settings.seed)
    curve: list[CurvePoint] = []
    kept: dict[str, Tensor] | None = None
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), dtype=torch.float64)
        for rows in epoch_batches(data.length, settings.batch_size, shuffle):
            optimiser.zero_grad(set_to_none=True)
            loss = _likelihood_loss(lm, data.batch(rows, lm.device))
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach().cpu() * len(rows)
            if progress is not None:
                progress(len(rows))
        mean = float(total) / len(data)
        if not math.isfinite(mean) or not all(bool(torch.isfinite(one).all()) for one in parameters.values()):
            error = AdapterDiverged(
                "fitting diverged",
                where=f"epoch {epoch}",
                expected="a finite loss",
                got=mean,
                do="Lower the learning rate.",
            )
            error.last_good = adapter(kept) if kept else None
            raise error
        curve.append(CurvePoint(epoch, mean, mean, 0.0, 0.0))
        kept = _copies(parameters)
        if settings.stop_below is not None and mean < settings.stop_below:
            break
    return tuple(curve)


def _likelihood_loss(lm: LanguageModel, batch: Batch) -> Tensor:
    labels = slice(batch.first_label, None)
    logits = logits_to_end(lm, batch.ids, batch.attention, batch.first_label - 1)
    return negative_log_likelihood(logits, batch.ids[:, labels], batch.labels[:, labels]).mean()


@contextmanager
def adapted(lm: LanguageModel, adapter: Adapter, alpha: float = 1.0) -> Iterator[None]:
    """While open, `lm` answers with the adapter at strength `alpha`, every row and every token; then it is as before.

    alpha 0 changes nothing at all. Raises PsrError for a bad alpha, another model, or LoRA without `peft`.
    """
    alpha = check_alpha(alpha)
    if not akin(adapter.model, lm.fingerprint):
        raise PsrError(
            "this adapter was fitted on another model or tokenizer",
            where=adapter.id,
            expected=f"fingerprint {adapter.model}",
            got=lm.fingerprint,
            do="Load the model it was fitted on, or fit it again.",
        )
    with ExitStack() as stack:
        if alpha:
            parameters = stack.enter_context(
                _lora(lm.model, adapter.rank, 0) if adapter.rank else _own_weights(lm.model)
            )
            _fill(parameters, adapter, alpha)
            for parameter in parameters.values():
                parameter.requires_grad_(False)
        yield


@torch.no_grad()
def _fill(parameters: Mapping[str, nn.Parameter], adapter: Adapter, alpha: float) -> None:
    if set(parameters) != set(adapter.tensors):
        raise PsrError(
            "an adapter's weights have other names than the model's",
            where=adapter.id,
            expected=f"{len(parameters)} names",
            got=f"{len(adapter.tensors)}",
            do="Fit it again.",
        )
    for name, parameter in parameters.items():
        value = adapter.tensors[name].to(parameter.device, parameter.dtype)
        if not adapter.rank:
            parameter.copy_(value if alpha == 1 else torch.lerp(parameter, value, alpha))
        else:
            parameter.copy_(alpha * value if "lora_B" in name else value)


@contextmanager
def _own_weights(model: nn.Module) -> Iterator[dict[str, nn.Parameter]]:
    """Copies in place of the model's floating-point weights, to be changed at will; the model's own come back at the end."""
    parameters = {name: one for name, one in model.named_parameters() if one.is_floating_point()}
    kept = {name: (one.data, one.requires_grad) for name, one in parameters.items()}
    try:
        for one in parameters.values():
            one.data = one.data.clone()
            one.requires_grad_(True)
        yield parameters
    finally:
        for name, one in parameters.items():
            one.data, one.grad = kept[name][0], None
            one.requires_grad_(kept[name][1])


@contextmanager
def _lora(model: Any, rank: int, seed: int) -> Iterator[dict[str, nn.Parameter]]:
    """A fresh LoRA of `rank` on all linear maps but the head; peft's layers leave again at the end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise PsrError(
            "LoRA needs the library peft", got=f"{type(error).__name__}: {error}", do="Install it: pip install peft."
        ) from error
    frozen = {name: one.requires_grad for name, one in model.named_parameters()}
    config = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of layers that it handles (Conv1D's order of axes)
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    try:
        yield {name: one for name, one in model.named_parameters() if "lora_" in name}
    finally:
        wrapped.unload()
        for name in ("peft_config", "_hf_peft_config_loaded"):
            model.__dict__.pop(name, None)
        for name, one in model.named_parameters():
            one.requires_grad_(frozen[name])
