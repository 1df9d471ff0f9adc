"""What stays the same over all steps of a fit, checked once before the first of them.

The MSE of a module whose lowest layer is l needs targets at layer l and at every later layer (Heyman & Vandeputte,
ICML 2026, Section 3): what a module does at one layer is judged by what the layers after it make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.batches import TrainingSet, training_set
from psr.errors import PsrError
from psr.forms import Form, form_named
from psr.presets import FitSettings
from psr.recording import Targets, record
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Problem:
    """One fit: the model, the padded examples, and (for the MSE) the targets.

    seen: the layers that the MSE sums over; rows: their places in targets.values; scale: what the MSE is divided by.
    """

    lm: LanguageModel
    data: TrainingSet
    form: Form
    layers: tuple[int, ...]
    settings: FitSettings
    targets: Targets | None = None
    seen: tuple[int, ...] = ()
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    scale: float = 1.0

    @property
    def mse(self) -> bool:
        """Whether this is an MSE fit; else LL."""
        return self.targets is not None

    def wanted(self, place: Tensor) -> Tensor:
        """A[l,i | x' y'] laid over a batch of plain runs. place: [batch, token] from its Batch.

        Returns [layer, batch, token, d] on the model's device, in the order of `seen`; meaningful inside the span.
        """
        if self.targets is None:
            raise PsrError("LL has no targets", expected="an MSE fit")
        values = self.targets.values  # on the CPU, or on the device when the caller moved them there
        return values[self.rows[:, None, None].to(values.device), place.to(values.device)].to(self.lm.device)


def pose(
    lm: LanguageModel, examples: Sequence[Example], method: Method, layers: Sequence[int], settings: FitSettings,
    targets: Targets | None,
) -> Problem:
    """Everything checked, and the targets recorded when they are missing.

    Raises PsrError when there is no example, or the layers, examples or targets do not fit the method or the model.
    """
    if method.objective not in ("MSE", "LL"):
        raise PsrError("this objective is not fitted by gradients", expected="MSE or LL", got=method.objective,
                       do="Use difference_of_means.")
    ordered = _checked_layers(lm, method, layers)
    form, data = form_named(method.form), training_set(examples, settings.label_span, lm.pad_id)
    _check_examples(lm, examples, method)
    if method.objective == "LL":
        return Problem(lm, data, form, ordered, settings)
    seen = tuple(range(ordered[0], lm.n_layers))
    if targets is None:
        targets = record(lm, [example.tokens.instructed_ids for example in examples],
                         [example.tokens.instructed_start for example in examples], seen, span=method.span)
    check_targets(targets, lm.fingerprint, seen, method.span, [example.tokens.length for example in examples])
    rows = torch.tensor([targets.layers.index(layer) for layer in seen])
    return Problem(lm, data, form, ordered, settings, targets, seen, rows)


def check_targets(targets: Targets, fingerprint: str, layers: Sequence[int], span: str, lengths: Sequence[int]) -> None:
    """Raise PsrError, with the reason, unless `targets` belong to this model, span, layers and sequences."""
    if targets.model != fingerprint:
        raise PsrError("the targets were recorded on another model or tokenizer", expected=f"fingerprint {fingerprint}",
                       got=targets.model, do="Extract them again.")
    if targets.span != span:
        raise PsrError("the targets were recorded on another span", expected=span, got=targets.span,
                       do="Extract them again.")
    missing = [layer for layer in layers if layer not in targets.layers]
    if missing:
        raise PsrError("the targets lack layers", expected=tuple(layers), got=targets.layers, do="Extract them again.")
    if len(targets) != len(lengths):
        raise PsrError("the targets are for other examples", expected=f"{len(lengths)} sequences", got=len(targets),
                       do="Extract them again.")
    for i, length in enumerate(lengths):
        got = targets.offsets[i + 1] - targets.offsets[i]
        if got != length:
            raise PsrError("the targets are for other examples", where=f"example {i}", expected=f"{length} span tokens",
                           got=got, do="Extract them again.")


def _checked_layers(lm: LanguageModel, method: Method, layers: Sequence[int]) -> tuple[int, ...]:
    ordered = tuple(sorted(set(layers)))
    wrong = [layer for layer in ordered if not 0 <= layer < lm.n_layers]
    if wrong or not ordered:
        raise PsrError("no such layer to steer", expected=f"0 to {lm.n_layers - 1}", got=wrong or "none")
    if method.scope == "S" and len(ordered) != 1:
        raise PsrError("a single-layer method steers one layer", where=method.name, expected="one layer", got=ordered)
    return ordered


def _check_examples(lm: LanguageModel, examples: Sequence[Example], method: Method) -> None:
    for i, example in enumerate(examples):
        longest = max(len(example.tokens.plain_ids), len(example.tokens.instructed_ids))
        if example.tokens.span != method.span:
            raise PsrError("an example is aligned on another span", where=f"example {i}", expected=method.span,
                           got=example.tokens.span, do="Align it again.")
        if longest > lm.context:
            raise PsrError("an example is longer than the model's context", where=f"example {i}",
                           expected=f"at most {lm.context} tokens", got=longest, do="Leave it out.")
