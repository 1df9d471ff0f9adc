"""Completions that are made once: each batch of questions is a cell, found or made.

An ask's id says what is asked of which model, but not what a module holds or how code turns it into text: a batch's key
therefore has the modules' contents, and its cells the code's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psr.types import Completion, PromptPair
from tasks.asking.models import ModelSettings, open_model
from tasks.asking.modules import digest
from tasks.engine.cells import Cells
from tasks.engine.progress import progress
from tasks.tables.parquet import read_completions, write_completions, write_pairs, write_table

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.answers.sampling import Sampling


@dataclass(frozen=True)
class Answerer:
    """Who answers, and how: the model, the sampling, so many at once; cells: where finished batches are kept."""

    model: ModelSettings
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
        """What its answers to the same questions depend on; rounding, and so a word in a hundred answers, on the batches."""
        return *self.model.reads, self.temperature, self.max_new_tokens, self.batch_size

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


def write_questions(
    folder: Path, attribute: str, pairs: Sequence[PromptPair], question_set: str, seed: int, sampled: Sequence[int]
) -> None:
    """The pairs that are asked, and which sampling seeds answer for a fit seed."""
    write_pairs(folder / "pairs.parquet", pairs, question_set, "held_out")
    rows = [{"attribute": attribute, "seed": seed, "sampled": n} for n in sampled]
    write_table(folder / "draws.parquet", "draws", rows)
