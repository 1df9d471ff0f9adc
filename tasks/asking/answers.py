"""Completions and judgements that are made once: what a stopped run had finished is looked up, the rest is made.

Both keep their finished chunks in a scratch folder as the same parquet tables that the stages write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from psr.judges.judging import Judge, judge_all
from psr.types import Completion, JudgeItem, Judgement, PromptPair, short_hash
from tasks.engine.progress import progress
from tasks.engine.scratch import Scratch
from tasks.tables.parquet import read_completions, read_judgements, write_completions, write_judgements

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.answers.sampling import Sampling
    from psr.lm.models import LanguageModel


def complete_once(
    lm: LanguageModel, asks: Sequence[Ask], sampling: Sampling, scratch: Scratch, *, batch_size: int, label: str
) -> list[Completion]:
    """A completion for every ask, in order. Finished ones come from `scratch`; new ones go there batch by batch."""
    from psr.answers.completions import complete

    made = {c.id: c for file in scratch.items("completions-") for c in read_completions(file)}
    ids = [ask.id(lm.fingerprint, sampling) for ask in asks]
    todo = list({key: ask for key, ask in zip(ids, asks, strict=True) if key not in made}.values())
    with progress(label, len(todo), "completions") as advance:
        for at in range(0, len(todo), batch_size):
            new = complete(lm, todo[at : at + batch_size], sampling, batch_size=batch_size)
            name = f"completions-{short_hash(*[c.id for c in new])}"
            scratch.put(name, partial(write_completions, completions=new))
            made |= {c.id: c for c in new}
            advance(len(new))
    return [made[key] for key in ids]


def judge_once(
    judge: Judge,
    completions: Iterable[Completion],
    pairs: Mapping[str, PromptPair],
    scratch: Scratch,
    *,
    label: str,
    batch_size: int = 256,
) -> list[Judgement]:
    """Every judgement of every completion, in order. The judge sees question and answer, never the method or α."""
    made: dict[str, list[Judgement]] = {}
    for file in scratch.items("judgements-"):
        for judgement in read_judgements(file):
            made.setdefault(judgement.completion, []).append(judgement)
    completions = list(completions)
    todo = [judge_item(c, pairs[c.pair]) for c in completions if c.id not in made]
    with progress(label, len(todo), "completions judged") as advance:
        for at in range(0, len(todo), batch_size):
            new = judge_all(judge, todo[at : at + batch_size], batch_size=batch_size).judgements
            name = f"judgements-{short_hash(*[j.id for j in new])}"
            scratch.put(name, partial(write_judgements, judgements=new))
            for judgement in new:
                made.setdefault(judgement.completion, []).append(judgement)
            advance(min(batch_size, len(todo) - at))
    return [judgement for c in completions for judgement in made[c.id]]


def judge_item(completion: Completion, pair: PromptPair) -> JudgeItem:
    """What a judge is shown of a completion."""
    return JudgeItem(completion.id, pair.attribute, pair.question, completion.text)
