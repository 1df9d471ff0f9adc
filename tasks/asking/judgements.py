"""Judgements that are made once: each batch of answers is a cell, keyed by the judge, its rubric and the texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

from psr.judges.judging import Judge, judge_all
from psr.types import Completion, JudgeItem, Judgement, PromptPair
from tasks.engine.cells import Cells
from tasks.engine.progress import progress
from tasks.tables.parquet import read_judgements, write_judgements

JUDGED_AT_ONCE = 256


def judge_once(
    judge: Judge, completions: Iterable[Completion], pairs: Mapping[str, PromptPair], cells: Cells, label: str
) -> list[Judgement]:
    """Every judgement of every completion, in order. The judge sees question and answer, never the method or α."""
    completions = list(completions)
    items = list({c.id: JudgeItem.of(c, pairs[c.pair]) for c in completions}.values())
    made: dict[str, list[Judgement]] = {}
    with progress(label, len(items), "completions judged") as advance:
        for at in range(0, len(items), JUDGED_AT_ONCE):
            batch = items[at : at + JUDGED_AT_ONCE]
            by = judged_by(judge, {item.attribute for item in batch})
            cell = cells.keep(
                "judgements", (by, [astuple(item) for item in batch]), partial(_judge, judge=judge, items=batch)
            )
            for judgement in read_judgements(cell / "judgements.parquet"):
                made.setdefault(judgement.completion, []).append(judgement)
            advance(len(batch))
    return [judgement for c in completions for judgement in made[c.id]]


def judged_by(judge: Judge, attributes: Iterable[str]) -> tuple[object, ...]:
    """What the judgements of answers to these attributes depend on, beside the answers."""
    reads = getattr(judge, "reads", None)
    return judge.id, judge.rubric, [reads(attribute) for attribute in sorted(attributes)] if reads else []


def _judge(folder: Path, judge: Judge, items: Sequence[JudgeItem]) -> None:
    write_judgements(folder / "judgements.parquet", judge_all(judge, items, batch_size=len(items)).judgements)
