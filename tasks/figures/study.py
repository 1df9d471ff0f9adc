"""What the tables of faithfulness are made of: unseen questions, an instructed answer each, run with and without the prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psr.types import Attribute, Completion, PromptPair

if TYPE_CHECKING:
    from psr.evaluation.bootstrap import Interval
    from psr.evaluation.delta import Contrast
    from psr.evaluation.resampling import Array
    from psr.lm.models import LanguageModel
    from psr.types import AlignedTokens


@dataclass(frozen=True, eq=False)
class Study:
    """One attribute's unseen questions with an instructed answer each, run both ways. counts: [resample, question]."""

    attribute: Attribute
    lm: LanguageModel
    pairs: Sequence[PromptPair]
    answers: Sequence[Completion]
    tokens: Sequence[AlignedTokens]
    seen: Contrast
    counts: Array

    @property
    def n(self) -> int:
        return len(self.pairs)

    @property
    def offsets(self) -> tuple[int, ...]:
        return self.seen.plain.offsets


def study_of(
    attribute: Attribute,
    lm: LanguageModel,
    pairs: Sequence[PromptPair],
    answers: Sequence[Completion],
    resamples: int,
    seed: int,
) -> Study:
    """The answers aligned on span QR and run both ways; seed: of the draws of questions."""
    from psr.evaluation.bootstrap import EVALUATE
    from psr.evaluation.delta import contrast
    from psr.evaluation.resampling import resample

    tokens = aligned(lm, pairs, answers)
    return Study(
        attribute, lm, pairs, answers, tokens, contrast(lm, tokens), resample(len(pairs), resamples, seed, EVALUATE)
    )


def aligned(lm: LanguageModel, pairs: Sequence[PromptPair], answers: Sequence[Completion]) -> list[AlignedTokens]:
    """x y' and x' y' of every answer, on span QR."""
    from psr.lm.alignment import align

    return [align(lm.tokenizer, pair, answer.token_ids, "QR") for pair, answer in zip(pairs, answers, strict=True)]


def interval(name: str, one: Interval, low: str, high: str) -> dict[str, float | None]:
    """An interval as three columns; nan is how arrays say "not known"; tables say it with an empty cell."""
    return {column: None if math.isnan(value) else value for column, value in zip((name, low, high), one, strict=True)}
