"""One repetition of one attribute: its questions, its sampling seeds, and all that was answered and judged so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psr.evaluation.alpha_search import Scores
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, PLAIN, Completion, Judgement, PromptPair
from tasks.asking.answers import complete_once, judge_once
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.scratch import Scratch
from tasks.figures.scores import ratings_of, scores_of, values_of
from tasks.tables.parquet import write_completions, write_judgements, write_pairs, write_table

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.steering.module import SteeringModule


@dataclass
class Asking:
    """Asks in, completions and judgements out, each made once and kept here until they are written."""

    model: ModelPlace
    judge: Judge
    scratch: Scratch
    label: str
    pairs: Sequence[PromptPair]
    sampled: Sequence[int]
    temperature: float
    max_new_tokens: int
    batch_size: int
    completions: list[Completion] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    def ask(self, asks: Sequence[Ask], label: str) -> list[Completion]:
        """Complete and judge."""
        from psr.answers.sampling import Sampling

        told, pairs = f"{self.label} {label}".rstrip(), {ask.pair.id: ask.pair for ask in asks}
        made = complete_once(
            open_model(self.model),
            asks,
            Sampling(self.max_new_tokens, self.temperature),
            self.scratch,
            batch_size=self.batch_size,
            label=told,
        )
        self.completions += made
        self.judgements += judge_once(self.judge, made, pairs, self.scratch, label=told)
        return made

    def unsteered(self) -> list[Completion]:
        """The plain and the instructed answers."""
        from psr.answers.completions import Ask

        return self.ask(
            [
                Ask(pair, method, sampled)
                for method in (PLAIN, INSTRUCTED)
                for pair in self.pairs
                for sampled in self.sampled
            ],
            "",
        )

    def steered(self, module: SteeringModule, alphas: Sequence[float]) -> list[Completion]:
        """One module's answers at every alpha but 0, in one batched call."""
        from psr.answers.completions import Ask

        return self.ask(
            [
                Ask(pair, module.id, sampled, module, alpha)
                for alpha in alphas
                if alpha != 0
                for pair in self.pairs
                for sampled in self.sampled
            ],
            str(module.origin["method"]),
        )

    def coherent(self, module: SteeringModule, alphas: Sequence[float]) -> Scores:
        """Trait and coherence of one module. alpha 0 is the unsteered model, bit-exact: its answers are there already."""
        plain = [c for c in self.completions if c.method == PLAIN and 0 in alphas]
        return scores_of([*plain, *self.steered(module, alphas)], values_of(self.judgements), self.pairs)

    def rated(self, module: SteeringModule, factors: Sequence[float]) -> Scores:
        """AxBench's harmonic mean of one module's ratings, as `trait`."""
        made = self.steered(module, factors)
        return scores_of(made, ratings_of(self.judgements), self.pairs, ("harmonic", "fluency"))

    def write(self, folder: Path, attribute: str, seed: int, question_set: str) -> None:
        """Pairs, completions, judgements, and which sampling seeds belong to the fit seed."""
        write_pairs(folder / "pairs.parquet", self.pairs, question_set, "held_out")
        write_completions(folder / "completions.parquet", self.completions)
        write_judgements(folder / "judgements.parquet", self.judgements)
        write_draws(folder, attribute, seed, self.sampled)


def write_draws(folder: Path, attribute: str, seed: int, sampled: Sequence[int]) -> None:
    """Which sampling seeds answered for a fit seed."""
    write_table(
        folder / "draws.parquet", "draws", [{"attribute": attribute, "seed": seed, "sampled": n} for n in sampled]
    )
