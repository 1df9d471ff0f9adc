"""Completions and judgements that are made once: each batch of questions is a cell, found or made.

An ask's id says what is asked of which model, but not what a module holds or how code turns it into text: a batch's key
therefore has the modules' contents, and its cells the code's version. A judgement's key has the text that was judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from psr.judges.judging import Judge, judge_all
from psr.types import Completion, JudgeItem, Judgement, PromptPair
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.cells import Cells
from tasks.engine.progress import progress
from tasks.tables.modules import digest
from tasks.tables.parquet import read_completions, read_judgements, write_completions, write_judgements

if TYPE_CHECKING:
    from pathlib import Path

    from psr.answers.completions import Ask
    from psr.answers.sampling import Sampling

JUDGED_AT_ONCE = 256


@dataclass(frozen=True)
class Answerer:
    """Who answers, and how: the model, the sampling, so many at once; cells: where finished batches are kept."""

    model: ModelPlace
    cells: Cells
    temperature: float
    max_new_tokens: int
    batch_size: int

    @property
    def sampling(self) -> Sampling:
        from psr.answers.sampling import Sampling

        return Sampling(self.max_new_tokens, self.temperature)

    @property
    def reads(self) -> tuple[object, ...]:
        """What its answers to the same questions depend on."""
        return *self.model.reads, self.temperature, self.max_new_tokens

    def answer(self, asks: Sequence[Ask], label: str) -> list[Completion]:
        """A completion for every ask, in order."""
        lm, sampling = open_model(self.model), self.sampling
        ids = [ask.id(lm.fingerprint, sampling) for ask in asks]
        unique = list(dict(zip(ids, asks, strict=True)).items())
        contents = {ask.module.id: ask.module for ask in asks if ask.module is not None}
        digests = {id: digest(module) for id, module in contents.items()}
        made: dict[str, Completion] = {}
        with progress(label, len(unique), "completions") as advance:
            for at in range(0, len(unique), self.batch_size):
                batch = unique[at : at + self.batch_size]
                reads = [(id, digests.get(ask.method)) for id, ask in batch]
                cell = self.cells.keep(
                    "answers", (self.model.reads, reads), partial(self._write, asks=[ask for _, ask in batch])
                )
                made |= {c.id: c for c in read_completions(cell / "completions.parquet")}
                advance(len(batch))
        return [made[id] for id in ids]

    def _write(self, folder: Path, asks: Sequence[Ask]) -> None:
        from psr.answers.completions import complete

        answers = complete(open_model(self.model), asks, self.sampling, batch_size=self.batch_size)
        write_completions(folder / "completions.parquet", answers)


def judge_once(
    judge: Judge, completions: Iterable[Completion], pairs: Mapping[str, PromptPair], cells: Cells, label: str
) -> list[Judgement]:
    """Every judgement of every completion, in order. The judge sees question and answer, never the method or α."""
    completions = list(completions)
    items = list({c.id: judge_item(c, pairs[c.pair]) for c in completions}.values())
    made: dict[str, list[Judgement]] = {}
    with progress(label, len(items), "completions judged") as advance:
        for at in range(0, len(items), JUDGED_AT_ONCE):
            batch = items[at : at + JUDGED_AT_ONCE]
            reads = [(item.completion, item.attribute, item.question, item.text) for item in batch]
            cell = cells.keep("judgements", (judge.id, judge.rubric, reads), partial(_judge, judge=judge, items=batch))
            for judgement in read_judgements(cell / "judgements.parquet"):
                made.setdefault(judgement.completion, []).append(judgement)
            advance(len(batch))
    return [judgement for c in completions for judgement in made[c.id]]


def _judge(folder: Path, judge: Judge, items: Sequence[JudgeItem]) -> None:
    write_judgements(folder / "judgements.parquet", judge_all(judge, items, batch_size=len(items)).judgements)


def judge_item(completion: Completion, pair: PromptPair) -> JudgeItem:
    """What a judge is shown of a completion."""
    return JudgeItem(completion.id, pair.attribute, pair.question, completion.text)
