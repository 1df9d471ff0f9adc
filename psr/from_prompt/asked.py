"""Answers and verdicts of one distillation: what is asked is answered, judged by one judge, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.answers.completions import Ask, complete
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.evaluation.resampling import Array
from psr.judges.judging import Judge, judge_all
from psr.types import Completion, JudgeItem, Judgement, PromptPair

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

Progress = Callable[[str, int, int], None]
COHERENCE = "coherence"


@dataclass(eq=False)
class Asked:
    """Everything that was answered and judged so far. progress(step, n, total): n more of a step's total are done."""

    lm: LanguageModel
    sampling: Sampling
    seed: int
    batch_size: int
    progress: Progress | None = None
    pairs: dict[str, PromptPair] = field(default_factory=dict)
    completions: list[Completion] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    def answer(self, step: str, pairs: Sequence[PromptPair], method: str, **steering: Any) -> list[Completion]:
        """One answer to each pair. method, steering: as of an Ask."""
        return self.answer_all(step, [Ask(pair, method, self.seed, **steering) for pair in pairs])

    def answer_all(self, step: str, asks: Sequence[Ask]) -> list[Completion]:
        made = complete(self.lm, asks, self.sampling, batch_size=self.batch_size, progress=self.bar(step, len(asks)))
        self.pairs |= {ask.pair.id: ask.pair for ask in asks}
        self.completions += made
        return made

    def items(self, completions: Sequence[Completion]) -> list[JudgeItem]:
        """The completions as a judge is shown them."""
        return [JudgeItem.of(one, self.pairs[one.pair]) for one in completions]

    def judge(self, step: str, judge: Judge, completions: Sequence[Completion]) -> tuple[Array, Array]:
        """Effect and coherence of each completion, 100 being the judge's scale; nan where it gave none."""
        bar = self.bar(step, len(completions))
        verdicts = judge_all(judge, self.items(completions), batch_size=self.batch_size, progress=bar).judgements
        self.judgements += verdicts
        values = {
            (one.completion, one.dimension): np.nan if one.value is None else 100 * one.value / one.scale
            for one in verdicts
        }
        effect, coherence = (
            np.array([values[one.id, name] for one in completions]) for name in (judge.dimensions[0], COHERENCE)
        )
        if np.isnan(effect).all() or np.isnan(coherence).all():
            raise PsrError("the judge judged none of the answers", where=f"judge {judge.id}", expected="verdicts",
                           got=next(one.error for one in verdicts if one.value is None))  # fmt: skip
        return effect, coherence

    def bar(self, step: str, total: int) -> Callable[[int], None] | None:
        """The progress of one step, as a function of how many were just done."""
        progress = self.progress
        return None if progress is None else lambda n: progress(step, n, total)
