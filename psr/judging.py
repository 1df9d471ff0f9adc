"""Judges as batched callables, and the one function that asks them: retries, keeps order, counts what failed.

A judgement that could not be made has value None and says why; it is never 0 and never missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from psr.errors import JudgeError, PsrError
from psr.types import JudgeItem, Judgement, Usage, Verdicts

Key = tuple[str, str]  # completion, dimension


class Judge(Protocol):
    """Whatever judges: `id` names it, `rubric` is the version of its questions, `dimensions` what it rates.

    Called with items it returns one judgement per item and dimension, item by item, and its usage. A value lies in
    [0, the judgement's scale], or is None with the reason in `error`. It raises JudgeError when it could not judge.
    """

    @property
    def id(self) -> str: ...

    @property
    def rubric(self) -> str: ...

    @property
    def dimensions(self) -> tuple[str, ...]: ...

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts: ...


def judge_all(
    judge: Judge, items: Sequence[JudgeItem], *, batch_size: int = 256, retries: int = 2, wait: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Verdicts:
    """Judge every item: one judgement per item and dimension, item by item in the order asked, and the summed usage.

    A completion that is asked twice is judged once. A JudgeError is tried again up to `retries` times if it says that
    this may help, after `wait` seconds, then twice as long. One that stays, a verdict that is missing and a value that
    is nan or outside [0, scale] become judgements without a value that say why. progress(n) is called with the
    number of items just judged. Raises PsrError for a judge that names completions or dimensions it was not asked for.
    """
    if batch_size < 1 or retries < 0:
        raise PsrError("these batches cannot be judged", expected="batch_size of at least 1 and retries of 0 or more",
                       got=f"batch_size {batch_size}, retries {retries}")
    unique = list({item.completion: item for item in items}.values())
    found: dict[Key, Judgement] = {}
    usages: list[Usage] = []
    for at in range(0, len(unique), batch_size):
        batch = unique[at : at + batch_size]
        verdicts, error = _ask(judge, batch, retries, wait)
        usages.append(verdicts.usage)
        found |= _accept(judge, batch, verdicts, error)
        if progress is not None:
            progress(len(batch))
    scales = {judgement.dimension: judgement.scale for judgement in found.values() if judgement.scale > 0}
    ordered = [found[item.completion, dimension] for item in items for dimension in judge.dimensions]
    return Verdicts(tuple(_with_scale(judgement, scales) for judgement in ordered), _total(usages))


def _ask(judge: Judge, batch: list[JudgeItem], retries: int, wait: float) -> tuple[Verdicts, str]:
    """The judge's verdicts on a batch; none, and the error's text, when it could not judge."""
    for attempt in range(retries + 1):
        try:
            return judge(batch), ""
        except JudgeError as error:
            if not error.retryable or attempt == retries:
                return Verdicts(()), str(error)
        time.sleep(wait * 2**attempt)
    raise PsrError("a judge cannot be asked fewer times than once", expected="retries of 0 or more", got=str(retries))


def _accept(judge: Judge, batch: list[JudgeItem], verdicts: Verdicts, error: str) -> dict[Key, Judgement]:
    """One judgement for each (completion, dimension) of the batch: the judge's, or one without a value."""
    asked = {(item.completion, dimension) for item in batch for dimension in judge.dimensions}
    given: dict[Key, Judgement] = {}
    for judgement in verdicts.judgements:
        key = (judgement.completion, judgement.dimension)
        if key not in asked or key in given or (judgement.judge, judgement.rubric) != (judge.id, judge.rubric):
            raise PsrError(
                "a judge answered what it was not asked", where=f"judge {judge.id}", do="Mend the judge.",
                expected=f"one verdict by {judge.id} {judge.rubric} for each item on {', '.join(judge.dimensions)}",
                got=f"{'a second' if key in given else 'one'} on {key} by {judgement.judge} {judgement.rubric}")
        given[key] = _checked(judgement)
    return {key: given.get(key) or _missing(judge, key, error or "the judge returned no verdict") for key in asked}


def _checked(judgement: Judgement) -> Judgement:
    """`judgement` itself, or without its value when that is not a number in [0, scale]."""
    value = judgement.value
    if value is None:
        return judgement if judgement.error else replace(judgement, error="the judge gave no value and no reason")
    if math.isfinite(value) and 0 <= value <= judgement.scale:
        return judgement
    return replace(judgement, value=None, error=f"value {value} is not a number from 0 to {judgement.scale:g}")


def _missing(judge: Judge, key: Key, error: str) -> Judgement:
    """A judgement that was not made. Its scale 0 means "not known yet"."""
    completion, dimension = key
    return Judgement(completion, judge.id, judge.rubric, dimension, None, 0.0, error=error)


def _with_scale(judgement: Judgement, scales: dict[str, float]) -> Judgement:
    """A judgement that was not made takes the scale of those on the same dimension that were."""
    return judgement if judgement.scale > 0 else replace(judgement, scale=scales.get(judgement.dimension, 0.0))


def _total(usages: Iterable[Usage]) -> Usage:
    usages = list(usages)
    return Usage(sum(u.calls for u in usages), sum(u.tokens_in for u in usages), sum(u.tokens_out for u in usages))
