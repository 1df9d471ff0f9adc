"""What must hold of the layers, the form, the settings, the examples and the targets before anything is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.fitting.presets import PACKAGES, FitSettings
from psr.fitting.problem import Objective
from psr.fitting.stores import Store
from psr.lm.padding import check_ids
from psr.steering.forms import form_named
from psr.types import Dropped, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def checked_layers(lm: LanguageModel, method: Method, layers: Sequence[int]) -> tuple[int, ...]:
    """`layers` in order, each once. Raises PsrError when the model or the method's scope does not have them."""
    ordered = tuple(sorted(set(layers)))
    wrong = [layer for layer in ordered if not 0 <= layer < lm.n_layers]
    if wrong or not ordered:
        raise PsrError("no such layer to steer", expected=f"0 to {lm.n_layers - 1}", got=wrong or "none")
    if method.scope == "S" and len(ordered) != 1:
        raise PsrError("a single-layer method steers one layer", where=method.name, expected="one layer", got=ordered)
    return ordered


def check_form(lm: LanguageModel, method: Method, objective: Objective, settings: FitSettings) -> None:
    """Raise PsrError where the model is narrower than the form's rank, or the settings do not fit the form."""
    form = form_named(method.form)
    if form.rank > lm.d_model:
        raise PsrError(
            "a rank larger than the model's width",
            where=method.name,
            expected=f"1 to {lm.d_model}",
            got=form.rank,
            do="Choose a smaller rank.",
        )
    if form.gated and objective.normalises:
        check_mixture(settings, objective.name)


def check_mixture(settings: FitSettings, name: str) -> None:
    """Raise PsrError where the dead-gate regulariser meets an objective that is to be normalised and is not, unless it is meant."""
    if settings.regulariser and not settings.normalise and not settings.mixed:
        raise PsrError(
            f"the dead-gate regulariser needs the normalised {name}",
            where="regulariser, normalise",
            expected=f"a package ({', '.join(PACKAGES)}), or mixed=True to allow it",
            got=f"regulariser {settings.regulariser}, normalise False",
            do="Set both or neither.",
        )


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


def check_kept(examples: Sequence[Example], settings: FitSettings, where: str = "") -> None:
    """Raise PsrError where the setting `keep` is about negatives and there is none."""
    if settings.keep and not any(example.negative for example in examples):
        raise PsrError(
            "keep is about negatives, plain answers that shall stay as they are",
            where=where,
            expected="one or more among the examples, or keep 0",
            got=f"none, and keep {settings.keep:g}",
            do="Add some: psr.Example(psr.align_plain(…)).",
        )


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


def check_enough(kept: int, dropped: Sequence[Dropped] = (), at_least: int = 1, where: str = "") -> None:
    """Raise PsrError, with what was dropped and why, when fewer than `at_least` triplets were kept."""
    if kept >= at_least:
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(one.reason for one in dropped).most_common())
    left_out = f"; {len(dropped)} dropped: {reasons}" if dropped else ""
    raise PsrError(
        "too few triplets to fit a module on",
        where=where,
        expected=f"at least {at_least}",
        got=f"{kept} kept{left_out}",
        do="Make more completions, or look at why they were dropped.",
    )
