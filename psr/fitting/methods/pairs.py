"""What most methods without training read: the last prompt token with the instruction (x') and without (x), pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.fitting.loop import Fitted
from psr.fitting.methods.contract import Learning
from psr.fitting.request import FitRequest
from psr.lm.recording import Targets, record
from psr.steering.module import SteeringModule
from psr.types import Example

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def from_prompt_ends(formula: Callable[..., SteeringModule], at_least: int = 1) -> Learning:
    """The learning of a method that is `formula(instructed, plain, layers, span, module_id=…, origin=…)` of the prompts' ends."""

    def learn(request: FitRequest) -> Fitted:
        sides = prompt_ends(request.lm, request.examples, request.layers)
        about = {"module_id": request.module_id, "origin": request.origin}
        return Fitted(formula(*sides, request.layers, request.method.span, **about), ())

    return Learning(learn, at_least=at_least)


def prompt_ends(lm: LanguageModel, examples: Sequence[Example], layers: Sequence[int]) -> tuple[Targets, Targets]:
    """Recordings (instructed, plain) of the last prompt token of every example, one token a sequence.

    Examples of equal prompts count as often as they come. Nothing of the answers is run.
    """
    if not examples:
        raise PsrError(
            "no examples to fit a module on",
            expected="at least one kept triplet",
            got="none",
            do="Look at what the selection dropped, and why.",
        )
    sides = [
        [one.tokens.instructed_ids[: -one.tokens.response] for one in examples],
        [one.prompt_ids for one in examples],
    ]
    instructed, plain = (record(lm, side, [len(ids) - 1 for ids in side], layers, span="R") for side in sides)
    return instructed, plain


def check_pairs(instructed: Targets, plain: Targets, layers: Sequence[int], at_least: int = 1) -> tuple[int, ...]:
    """`layers` in order. Raises PsrError unless token i of one side belongs to token i of the other, at each layer."""
    ordered = tuple(sorted(set(layers)))
    if instructed.model != plain.model:
        raise PsrError(
            "the two recordings come from different models",
            expected=instructed.model,
            got=plain.model,
            do="Extract them again.",
        )
    if instructed.offsets != plain.offsets or instructed.values.shape[1] < at_least:
        raise PsrError(
            "the two recordings are not pairs",
            expected=f"equal sequences, at least {at_least} tokens",
            got=f"{instructed.values.shape[1]} and {plain.values.shape[1]} tokens",
        )
    for targets in (instructed, plain):
        if not ordered or not set(ordered) <= set(targets.layers):
            raise PsrError(
                "a recording lacks layers",
                expected=ordered or "at least one layer",
                got=targets.layers,
                do="Extract them again.",
            )
    return ordered
