"""What stays the same over all steps of a fit, checked once before the first of them.

What each objective needs: MSE the instructed activations (targets), KL the instructed predictions (teacher), RePS the
plain answers (rejected) and how likely the unsteered model finds both; LL nothing.

The MSE of a module whose lowest layer is l needs targets at layer l and at every later layer (Heyman & Vandeputte,
ICML 2026, Section 3): what a module does at one layer is judged by what the layers after it make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import TrainingSet, training_set
from psr.fitting.methods import GRADIENT
from psr.fitting.presets import FitSettings, check_mixture
from psr.fitting.stores import Store, targets_within
from psr.fitting.teacher import Teacher
from psr.lm.padding import check_ids
from psr.lm.recording import Targets
from psr.steering.forms import Form, form_named
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Problem:
    """One fit: the model, the padded examples, and what the objective needs.

    seen: the layers that the MSE sums over; rows: their places in the targets; scale: what the MSE is divided by.
    frozen: what the lowest steered block returns unsteered, where it is not computed again in each step.
    rejected: the plain answers to the same prompts; reference: ℓ_ref of (y', y), [example] each.
    """

    lm: LanguageModel
    data: TrainingSet
    form: Form
    layers: tuple[int, ...]
    settings: FitSettings
    targets: Store | None = None
    seen: tuple[int, ...] = ()
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    scale: float = 1.0
    objective: str = "LL"
    examples: tuple[Example, ...] = ()
    teacher: Teacher | None = None
    rejected: TrainingSet | None = None
    reference: tuple[Tensor, Tensor] | None = None
    frozen: Targets | None = None

    @property
    def mse(self) -> bool:
        """Whether this is an MSE fit."""
        return self.targets is not None

    def wanted(self, place: Tensor) -> Tensor:
        """A[l,i | x' y'] laid over a batch of plain runs. place: [batch, token] from its Batch.

        Returns [layer, batch, token, d] on the model's device, in the order of `seen`; meaningful inside the span.
        """
        if self.targets is None:
            raise PsrError(f"{self.objective} has no targets", expected="an MSE fit")
        device = self.targets.device  # the CPU, or the model's when the caller moved them there
        return self.targets.at(self.rows, place.to(device)).to(self.lm.device)


def pose(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    settings: FitSettings,
    targets: Store | None,
) -> Problem:
    """Everything checked, and the targets recorded when they are missing.

    Raises PsrError when there is no example, or the layers, examples or targets do not fit the method or the model.
    """
    if method.objective not in GRADIENT:
        raise PsrError(
            "this objective is not fitted by gradients",
            expected=f"one of {', '.join(GRADIENT)}",
            got=method.objective,
            do="`from psr.fitting.learning import learn` knows every method.",
        )
    lm.check_adapters()
    ordered = checked_layers(lm, method, layers)
    form, data = _checked_form(lm, method, settings), training_set(examples, settings.label_span, lm.pad_id)
    check_examples(lm, examples, method)
    problem = Problem(lm, data, form, ordered, settings, objective=method.objective, examples=tuple(examples))
    if method.objective == "MSE":
        return _with_targets(problem, targets, method.span)
    if method.objective == "KL":
        return replace(problem, teacher=Teacher(lm, problem.examples))
    return _with_rejected(problem) if method.objective == "RePS" else problem


def _with_targets(problem: Problem, targets: Store | None, span: str) -> Problem:
    lm, examples = problem.lm, problem.examples
    seen = tuple(range(problem.layers[0], lm.n_layers))
    if targets is None:
        targets = targets_within(lm, examples, seen, span)
    check_targets(targets, lm.fingerprint, seen, span, [example.tokens.length for example in examples])
    rows = torch.tensor([targets.layers.index(layer) for layer in seen])
    return replace(problem, targets=targets, seen=seen, rows=rows)


def _with_rejected(problem: Problem) -> Problem:
    """The examples with their plain answers, as a training set with the same prompts and spans."""
    lm, other = problem.lm, []
    for i, example in enumerate(problem.examples):
        if not example.rejected:
            raise PsrError(
                "a preference needs the plain answer too",
                where=f"example {i}",
                expected="rejected tokens",
                got="none",
                do="Give Example(…, rejected=…).",
            )
        ids = (*example.prompt_ids, *example.rejected)
        if len(ids) > lm.context:
            raise PsrError(
                "a plain answer is longer than the model's context",
                where=f"example {i}",
                expected=f"at most {lm.context} tokens",
                got=len(ids),
                do="Leave it out.",
            )
        tokens = replace(
            example.tokens,
            plain_ids=ids,
            instructed_ids=ids,
            response=len(example.rejected),
            instructed_start=example.tokens.plain_start,
        )
        other.append(replace(example, tokens=tokens))
    data = training_set(problem.examples, "response", lm.pad_id)
    return replace(problem, data=data, rejected=training_set(other, "response", lm.pad_id))


def _checked_form(lm: LanguageModel, method: Method, settings: FitSettings) -> Form:
    form = form_named(method.form)
    if form.rank > lm.d_model:
        raise PsrError(
            "a rank larger than the model's width",
            where=method.name,
            expected=f"1 to {lm.d_model}",
            got=form.rank,
            do="Choose a smaller rank.",
        )
    if form.gated:
        check_mixture(settings, method.objective)
    return form


def check_targets(targets: Store, fingerprint: str, layers: Sequence[int], span: str, lengths: Sequence[int]) -> None:
    """Raise PsrError, with the reason, unless `targets` belong to this model, span, layers and sequences."""
    if targets.model != fingerprint:
        raise PsrError(
            "the targets were recorded on another model or tokenizer",
            expected=f"fingerprint {fingerprint}",
            got=targets.model,
            do="Extract them again.",
        )
    if targets.span != span:
        raise PsrError(
            "the targets were recorded on another span", expected=span, got=targets.span, do="Extract them again."
        )
    missing = [layer for layer in layers if layer not in targets.layers]
    if missing:
        raise PsrError("the targets lack layers", expected=tuple(layers), got=targets.layers, do="Extract them again.")
    if len(targets) != len(lengths):
        raise PsrError(
            "the targets are for other examples",
            expected=f"{len(lengths)} sequences",
            got=len(targets),
            do="Extract them again.",
        )
    for i, length in enumerate(lengths):
        got = targets.offsets[i + 1] - targets.offsets[i]
        if got != length:
            raise PsrError(
                "the targets are for other examples",
                where=f"example {i}",
                expected=f"{length} span tokens",
                got=got,
                do="Extract them again.",
            )


def checked_layers(lm: LanguageModel, method: Method, layers: Sequence[int]) -> tuple[int, ...]:
    """`layers` in order, each once. Raises PsrError when the model or the method's scope does not have them."""
    ordered = tuple(sorted(set(layers)))
    wrong = [layer for layer in ordered if not 0 <= layer < lm.n_layers]
    if wrong or not ordered:
        raise PsrError("no such layer to steer", expected=f"0 to {lm.n_layers - 1}", got=wrong or "none")
    if method.scope == "S" and len(ordered) != 1:
        raise PsrError("a single-layer method steers one layer", where=method.name, expected="one layer", got=ordered)
    return ordered


def check_examples(lm: LanguageModel, examples: Sequence[Example], method: Method) -> None:
    """Raise PsrError where an example is aligned on another span, has unknown tokens or is longer than the context."""
    for i, example in enumerate(examples):
        check_ids(example.tokens.instructed_ids, lm.vocabulary, f"example {i}")
        longest = max(len(example.tokens.plain_ids), len(example.tokens.instructed_ids))
        if example.tokens.span != method.span:
            raise PsrError(
                "an example is aligned on another span",
                where=f"example {i}",
                expected=method.span,
                got=example.tokens.span,
                do="Align it again.",
            )
        if longest > lm.context:
            raise PsrError(
                "an example is longer than the model's context",
                where=f"example {i}",
                expected=f"at most {lm.context} tokens",
                got=longest,
                do="Leave it out.",
            )
