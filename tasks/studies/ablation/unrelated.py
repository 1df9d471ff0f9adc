"""Plain answers to unrelated questions: some are negatives of fits, drift is measured on the others.

An attribute's unrelated questions are those of its benchmark's fitting side that no triplet has, where they are enough (the
testbed's, whose language has no others; published files), and otherwise psr's everyday ones. Half are for negatives, half for
drift; none of them chooses an α or gives a figure of effect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import spread
from psr.answers.questions import LEAST, Questions, divided, everyday_questions
from psr.errors import PsrError
from psr.evaluation.bootstrap import EVALUATE, Figure, interval_of
from psr.evaluation.resampling import resample
from psr.types import PLAIN, AlignedTokens, Attribute, Completion, PromptPair, short_hash
from tasks.asking.answers import Answerer
from tasks.asking.models import open_model
from tasks.steps.distill import Material

if TYPE_CHECKING:
    from psr.evaluation.drift import Drift
    from psr.steering.module import SteeringModule

MOST = 120  # of a large file's questions


@dataclass(frozen=True, eq=False)
class Unrelated:
    """The unrelated questions of an attribute, and who answers them, once for all attributes."""

    attribute: Attribute
    questions: Questions
    answerer: Answerer

    def negatives(self, count: int) -> list[tuple[PromptPair, tuple[int, ...]]]:
        """`count` plain answers to the first half of the questions, every question before one is answered again."""
        asked = self.questions.fitting
        completions = self._answered(asked, -(-count // len(asked)))[:count]
        return [(_plain(asked[i % len(asked)]), one.token_ids) for i, one in enumerate(completions)]

    @cached_property
    def tokens(self) -> list[AlignedTokens]:
        """A plain answer to each of the other half, x′ with the attribute's held-out instructions in turn, on span QR."""
        from psr.lm.alignment import align

        asked = (*self.questions.search, *self.questions.evaluate)
        wordings, tokenizer = (
            self.attribute.held_out or self.attribute.instructions,
            open_model(self.answerer.model).tokenizer,
        )
        return [
            align(tokenizer, PromptPair(self.attribute.key, question, wordings[i % len(wordings)]), one.token_ids, "QR")
            for i, (question, one) in enumerate(zip(asked, self._answered(asked, 1), strict=True))
        ]

    @cached_property
    def prompt(self) -> Drift:
        """The prompt's drift."""
        from psr.evaluation.drift import prompt_drift

        return prompt_drift(open_model(self.answerer.model), self.tokens)

    def module(self, module: SteeringModule, alpha: float) -> Drift:
        """A module's drift at strength alpha."""
        from psr.evaluation.drift import module_drift

        return module_drift(open_model(self.answerer.model), self.tokens, module, alpha)

    @cached_property
    def content(self) -> str:
        """A hash of what drift is measured on."""
        return short_hash([(one.plain_ids, one.instructed_ids) for one in self.tokens])

    def _answered(self, asked: tuple[str, ...], samples: int) -> list[Completion]:
        from psr.answers.completions import Ask

        asks = [Ask(_plain(question), PLAIN, seed) for seed in range(samples) for question in asked]
        return self.answerer.answer(asks, "unrelated questions")


def _plain(question: str) -> PromptPair:
    """A pair of which the plain side alone counts, the same for every attribute."""
    return PromptPair("unrelated", question, "")


def unrelated_questions(attribute: Attribute, used: Collection[str]) -> Questions:
    """The attribute's unrelated questions, neither `used` in triplets nor for search or evaluation."""
    left = [question for question in attribute.questions if question not in used]
    if len(left) >= LEAST:
        return divided(spread(left, min(len(left), MOST), "unrelated questions"))
    taken = {*used, *attribute.search, *attribute.evaluate}
    return Questions(*(tuple(question for question in side if question not in taken) for side in everyday_questions()))


@lru_cache(maxsize=64)
def drawn(material: Material, unrelated: Unrelated, triplets: int | None, seed: int, negatives: bool) -> Material:
    """What a variant is fitted on: so many of the triplets (None: all), drawn by `seed` so that a larger number holds a
    smaller one's, and as many negatives. Raises PsrError as `check_triplets` does.
    """
    check_triplets(material, triplets)
    if triplets is None and not negatives:
        return material
    chosen = material.triplets
    if triplets is not None:
        order = Random(f"triplets {seed}").sample(range(len(chosen)), len(chosen))  # noqa: S311 - no secret
        chosen = [chosen[i] for i in sorted(order[:triplets])]
    added = unrelated.negatives(len(chosen)) if negatives else []
    return replace(material, triplets=chosen, negatives=added)


def check_triplets(material: Material, triplets: int | None) -> None:
    """Raise PsrError where `material` has fewer than so many triplets (None: any number will do)."""
    if triplets is not None and triplets > len(material.triplets):
        raise PsrError(
            "not as many triplets as asked for",
            where=material.attribute,
            expected=f"1 to {len(material.triplets)}",
            got=triplets,
            do="Ask for fewer, or for more completions in params.yaml (complete, select.limit).",
        )


def drift_figure(drift: Drift, bootstrap: Mapping[str, Any]) -> Figure:
    """Nats a token as a figure over answers, so that modules and prompt are resampled together, and seeds too.

    bootstrap: the parameters' resamples and seed.
    """
    counts = resample(len(drift.nats), bootstrap["resamples"], bootstrap["seed"], EVALUATE)
    samples = (counts @ drift.nats) / (counts @ drift.tokens)
    value, low, high = interval_of(float(drift.nats.sum() / drift.tokens.sum()), samples)
    return Figure(value, low, high, len(drift.nats), 0, float("nan"), None, True, samples, bootstrap["seed"])
