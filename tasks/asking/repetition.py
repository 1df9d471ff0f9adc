"""One repetition of one attribute: its questions, its sampling seeds, and all that was answered and judged so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psr.evaluation.alpha_search import Scores
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, PLAIN, Completion, Judgement, PromptPair
from tasks.asking.answers import Answerer
from tasks.asking.judgements import judge_once
from tasks.figures.scores import ratings_of, scores_of, values_of
from tasks.tables.parquet import write_completions, write_judgements

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.steering.module import SteeringModule


@dataclass
class Asking:
    """Asks in, completions and judgements out, each kept here until they are written."""

    answerer: Answerer
    judge: Judge
    label: str
    pairs: Sequence[PromptPair]
    sampled: Sequence[int]
    completions: list[Completion] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    def ask(self, asks: Sequence[Ask], label: str) -> list[Completion]:
        """Complete and judge."""
        label, pairs = f"{self.label} {label}".rstrip(), {ask.pair.id: ask.pair for ask in asks}
        made = self.answerer.answer(asks, label)
        self.completions += made
        self.judgements += judge_once(self.judge, made, pairs, self.answerer.cells, label)
        return made

    def unsteered(self) -> list[Completion]:
        """The plain and the instructed answers."""
        from psr.answers.completions import Ask

        both = (PLAIN, INSTRUCTED)
        return self.ask(
            [Ask(pair, method, sampled) for method in both for pair in self.pairs for sampled in self.sampled], ""
        )

    def steered(self, module: SteeringModule, alphas: Sequence[float]) -> list[Completion]:
        """One module's answers at every alpha but 0, in one batched call."""
        from psr.answers.completions import Ask

        asks = [
            Ask(pair, module.id, sampled, module, alpha)
            for alpha in alphas
            if alpha != 0
            for pair in self.pairs
            for sampled in self.sampled
        ]
        return self.ask(asks, str(module.origin["method"]))

    def coherent(self, module: SteeringModule, alphas: Sequence[float], unsteered: Asking) -> Scores:
        """Trait and coherence of one module. alpha 0 is the unsteered model, bit-exact: its answers are there already."""
        plain = [c for c in unsteered.completions if c.method == PLAIN and 0 in alphas]
        steered = self.steered(module, alphas)
        return scores_of([*plain, *steered], values_of([*unsteered.judgements, *self.judgements]), self.pairs)

    def rated(self, module: SteeringModule, factors: Sequence[float]) -> Scores:
        """AxBench's harmonic mean of one module's ratings, as `trait`."""
        made = self.steered(module, factors)
        return scores_of(made, ratings_of(self.judgements), self.pairs, ("harmonic", "fluency"))

    def write(self, folder: Path) -> None:
        """Completions and judgements."""
        write_completions(folder / "completions.parquet", self.completions)
        write_judgements(folder / "judgements.parquet", self.judgements)
