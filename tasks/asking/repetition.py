"""One repetition of one attribute: its questions, its sampling seeds, and all that was answered and judged so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from psr.judges.judging import Judge
from psr.types import INSTRUCTED, PLAIN, Completion, Judgement, PromptPair
from tasks.asking.answers import Answerer
from tasks.asking.judgements import judge_once
from tasks.figures.scores import values_of
from tasks.figures.sides import Side
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

    def write(self, folder: Path) -> None:
        """Completions and judgements."""
        write_completions(folder / "completions.parquet", self.completions)
        write_judgements(folder / "judgements.parquet", self.judgements)


@dataclass
class Searched:
    """One steered module on the search questions, as a benchmark's strength asks for it (tasks/figures/strengths.py)."""

    asking: Asking
    steered: SteeringModule

    @property
    def module(self) -> str:
        return self.steered.id

    def side(self, alphas: Sequence[float]) -> Side:
        """The module's answers at these strengths. Alpha 0 is the unsteered model, bit-exact: the plain answers."""
        before = self.prompted() if 0 in alphas else Side(self.asking.pairs, (), {})
        made = self.asking.steered(self.steered, alphas)
        return Side(before.pairs, [*before.of(PLAIN), *made], {**before.values, **values_of(self.asking.judgements)})

    def prompted(self) -> Side:
        """The plain and the instructed answers, which every module shares: they are in the cells already."""
        if self._unsteered is None:
            unsteered = replace(self.asking, completions=[], judgements=[])
            self._unsteered = Side(unsteered.pairs, unsteered.unsteered(), values_of(unsteered.judgements))
        return self._unsteered

    _unsteered: Side | None = None
