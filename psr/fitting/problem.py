"""What a fit works on (Problem), what it minimises (Objective), and the steered runs that an objective looks at.

    def rows(problem, batch, steering):                                   LL, in full
        steered = logits(problem, batch, steering)
        return negative_log_likelihood(steered, labels_of(batch), label_mask(batch))

An objective gives one value for each row of a batch of x y'. It does not know how a module is parametrised, regularised or
optimised (psr/fitting/loop.py). Those that are registered stand in psr/fitting/objectives, one a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import Batch, TrainingSet
from psr.fitting.frozen import beginning_with, stream_of
from psr.fitting.presets import FitSettings, LabelSpan
from psr.fitting.stores import Store
from psr.fitting.teacher import logits_to_end
from psr.lm.blocks import recorded
from psr.lm.recording import Targets
from psr.steering.forms import Form, form_named
from psr.steering.hooks import Term, hooked
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

OnStrength = Callable[[int, Tensor, Tensor], None]
MEASURING_BATCH = 32  # batch size of passes without gradients; it changes no result


@dataclass(frozen=True, eq=False)
class Steering:
    """What a run is steered by: terms at each layer (none: the unsteered model), and who counts how far the gates open."""

    terms: Mapping[int, list[Term]] = field(default_factory=dict)
    on_strength: OnStrength | None = None

    def uncounted(self) -> Steering:
        """The same, for another run than that whose gates are counted."""
        return replace(self, on_strength=None)

    def reversed(self) -> Steering:
        """The same module at −α; its gates are not counted, and its gradients are summed before the others are added."""

        def away(term: Term) -> Term:
            params = {name: values.view_as(values) for name, values in term.params.items()}
            return Term(term.form, params, -term.alpha)

        return Steering({layer: [away(term) for term in at] for layer, at in self.terms.items()})


def soft_labels(settings: FitSettings, traits: Tensor, draw: torch.Generator) -> Tensor:
    """α in training: the judge's trait score of y' in [0, 1] plus the settings' offset, or 1 without soft labels."""
    return traits + settings.alpha_offset if settings.soft_labels else torch.ones_like(traits)


def ones(settings: FitSettings, traits: Tensor, draw: torch.Generator) -> Tensor:
    """α in training: 1."""
    return torch.ones_like(traits)


@dataclass(frozen=True, eq=False)
class Objective:
    """What gradients minimise.

    name: as in a method's `objective`. presets: "paper" and "fast" -> its settings.
    rows(problem, batch, steering): its value at each row of a batch of x y', [batch], differentiable in what `steering` adds.
    reads: INSTRUCTED where it compares with A[l,i | x' y'], which then is `problem.targets`.
    prepare(problem): what else it needs of the frozen model, computed once; then `problem.prepared`.
    strengths(settings, traits [batch], draw): α of each example of a step, [batch].
    normalises: whether the settings' `normalise` is about it: it is divided by its mean without steering. A benchmark's
    package, which sets the dead-gate regulariser with it, counts for such objectives only.
    imitates_runs: whether it follows what the model computes on x' y', so that any y' will do, and not y' itself.
    fits_likelihoods: whether it makes tokens likely, which is what a judge of likelihoods measures; tables mark such methods then.
    label_span: its labels, whatever the settings say. from_frozen: whether all its forwards run on the batch's own x y',
    so that they may begin at the lowest steered block.

    Example (a distance in place of the MSE):
        L1 = Objective("L1", {"paper": PAPER_MSE, "fast": FAST_MSE}, rows, reads=(INSTRUCTED,), strengths=soft_labels)
    """

    name: str
    presets: Mapping[str, FitSettings]
    rows: Callable[[Problem, Batch, Steering], Tensor]
    reads: tuple[str, ...] = ()
    prepare: Callable[[Problem], Any] = lambda problem: None
    strengths: Callable[[FitSettings, Tensor, torch.Generator], Tensor] = ones
    normalises: bool = False
    imitates_runs: bool = False
    fits_likelihoods: bool = False
    label_span: LabelSpan | None = None
    from_frozen: bool = True


@dataclass(frozen=True, eq=False)
class Problem:
    """What stays the same over all steps of a fit: the model, the padded examples, and what the objective needs.

    targets: the instructed activations, and prepared: what else was computed once, where the objective asks for them. frozen: what
    the lowest steered block returns unsteered, where it is not computed again in each step. scale: what the objective is
    divided by.
    """

    lm: LanguageModel
    examples: tuple[Example, ...]
    data: TrainingSet
    method: Method
    objective: Objective
    layers: tuple[int, ...]
    settings: FitSettings
    targets: Store | None = None
    prepared: Any = None
    frozen: Targets | None = None
    scale: float = 1.0

    @property
    def form(self) -> Form:
        """The form of module that is fitted."""
        return form_named(self.method.form)

    @property
    def seen(self) -> tuple[int, ...]:
        """The lowest steered layer and every later one: where steering shows."""
        return tuple(range(self.layers[0], self.lm.n_layers))

    def wanted(self, batch: Batch) -> Tensor:
        """A[l,i | x' y'] laid over a batch of plain runs.

        Returns [layer, batch, token, d] on the model's device, in the order of `seen`; meaningful inside the span.
        """
        if self.targets is None:
            raise PsrError(f"{self.objective.name} has no targets", expected="an objective that reads instructed runs")
        rows = torch.tensor([self.targets.layers.index(layer) for layer in self.seen])
        device = self.targets.device  # the CPU, or the model's when the caller moved them there
        return self.targets.at(rows, batch.index.to(device)).to(self.lm.device)


def activations(problem: Problem, batch: Batch, steering: Steering, layers: Sequence[int]) -> Mapping[int, Tensor]:
    """A[l,i | x y'] of the steered run after each of `layers`, [batch, token, d] each. The model's head does not run."""
    lm = problem.lm
    with _running(problem, batch, steering), recorded(lm.model, layers) as A:
        lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    return A


def logits(problem: Problem, batch: Batch, steering: Steering) -> Tensor:
    """The steered run's predictions of the labels, [batch, label, vocabulary], beside `labels_of` and `label_mask`."""
    with _running(problem, batch, steering):
        return logits_to_end(problem.lm, batch.ids, batch.attention, batch.first_label - 1)


@contextmanager
def _running(problem: Problem, batch: Batch, steering: Steering) -> Iterator[None]:
    """A forward on `batch` is steered; it begins with what the lowest steered block returns unsteered, where that is known."""
    stream = None if problem.frozen is None else stream_of(problem.frozen, batch, problem.lm.device)
    with (
        beginning_with(problem.lm.model, problem.layers[0], stream),
        hooked(problem.lm.model, steering.terms, batch.start, steering.on_strength),
    ):
        yield


def labels_of(batch: Batch) -> Tensor:
    """The tokens from the first label of the batch on, [batch, label] long."""
    return batch.ids[:, batch.first_label :]


def label_mask(batch: Batch) -> Tensor:
    """Which of `labels_of` are labels, [batch, label] bool; one a row at least."""
    return batch.labels[:, batch.first_label :]
