"""What `psr.distill` returns: the module with its strength, and the figures that speak for it or against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from psr.evaluation.bootstrap import Interval
from psr.from_prompt.strength import CurvePoint
from psr.types import Completion, Judgement, PromptPair

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


class Measured(NamedTuple):
    """Means over the evaluation questions, with the ends of their 95 % intervals."""

    effect: Interval
    coherence: Interval


class Said(NamedTuple):
    """Three answers to one evaluation question."""

    question: str
    plain: str
    prompted: str
    steered: str


@dataclass(frozen=True, eq=False)
class Distilled:
    """A module made from an instruction, by `psr.distill`.

    module: its origin holds the recommended α, which `psr.steer` uses when it is given none, and the figures.
    alpha: that α; interval: where 95 % of the choices on resampled search questions lie; safe: from where to where answers
    keep making sense, as far as was tried; reached: whether the effect gets to the prompt's (to suppress: to the plain
    answers') within it. curve: α, effect and coherence on the search questions.
    plain, prompted, steered: effect and coherence on the evaluation questions, which chose nothing; answers: the texts.
    followed: how well the judge told prompted answers from plain ones before fitting, 0 (not at all) to 100.
    kept: answers fitted on; dropped: reason -> how many were not. judge: its id; wordings: the held-out ones that it read with.
    """

    module: SteeringModule
    alpha: float
    interval: tuple[float, float]
    safe: tuple[float, float]
    reached: bool
    curve: tuple[CurvePoint, ...]
    plain: Measured
    prompted: Measured
    steered: Measured
    answers: tuple[Said, ...]
    followed: float
    kept: int
    dropped: Mapping[str, int]
    judge: str
    wordings: tuple[str, ...]

    def _repr_html_(self) -> str:
        """In a notebook: the module, its curve, the figures, the first answers."""
        from psr.show.distilled import distilled_html
        from psr.show.style import widget

        return widget(distilled_html(self))


class Computed(NamedTuple):
    """What was computed before an error, which carries it as its `computed`. pairs: by their id; module: if one was fitted."""

    pairs: Mapping[str, PromptPair]
    completions: tuple[Completion, ...]
    judgements: tuple[Judgement, ...]
    module: SteeringModule | None
