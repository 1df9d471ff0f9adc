"""The contract of a judge, and `judge_all`, which calls one in batches, retries, keeps the order and checks verdicts.

A judgement that could not be made has value None and the reason in `error`; it is never 0 and never left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from numbers import Real
from typing import Any, Protocol

from psr.errors import JudgeError, PsrError
from psr.types import JudgeItem, Judgement, Usage, Verdicts

Key = tuple[str, str]  # completion, dimension


class Judge(Protocol):
    """A judge. id: its name; rubric: the version of its questions; dimensions: the names of what it rates.

    Called with items, it returns one judgement per item and dimension, item by item, and its usage. A value lies in
    [0, the judgement's scale], or is None with the reason in `error`. It raises JudgeError when it could not judge; any
    other error is a fault of the judge and ends the run.

    A judge for which 0 and the scale are two marks on a line, and not its ends, names such dimensions in `unbounded`.

    A judge whose verdicts depend on more than its id, rubric and items also has a method `reads(attribute)`, which
    returns the rest as values of JSON. It is part of the key of finished judgements.
    """

    @property
    def id(self) -> str: ...

    @property
    def rubric(self) -> str: ...

    @property
    def dimensions(self) -> tuple[str, ...]: ...

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts: ...


def judge_all(
    judge: Judge,
    items: Sequence[JudgeItem],
    *,
    batch_size: int = 256,
    retries: int = 2,
    wait: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Verdicts:
    """Judge every item: one judgement per item and dimension, in the order of `items`, and the summed usage.

    A completion that occurs twice is judged once. Of an item that is `missing` the judge is not asked: its judgements have
    no value and say why. A JudgeError is tried again up to `retries` times if it says that this may help, after `wait`
    seconds, then twice as long. One that stays, a verdict that is missing, a value that is no number in [0, scale] (text, a
    truth value, a list, nan; any finite number is one on a dimension that is unbounded) and a scale that is no positive
    number become judgements without a value that say why. Values are returned as floats, those of numpy and torch too.
    progress(n) is called with the number of items just judged.
    Raises PsrError, with the judge's name, for a judge that raises anything but JudgeError, answers with anything but
    Verdicts, or names completions or dimensions that it was not asked about.
    """
    if batch_size < 1 or retries < 0:
        raise PsrError(
            "these batches cannot be judged",
            expected="batch_size of at least 1 and retries of 0 or more",
            got=f"batch_size {batch_size}, retries {retries}",
        )
    unique = list({item.completion: item for item in items}.values())
    judgements: dict[Key, Judgement] = {}
    usages: list[Usage] = []
    for at in range(0, len(unique), batch_size):
        batch = unique[at : at + batch_size]
        given = [item for item in batch if not item.missing]
        if given:
            verdicts, error = _ask(judge, given, retries, wait)
            usages.append(verdicts.usage)
            judgements |= _accept(judge, given, verdicts, error)
        keys = {(item.completion, name): item.missing for item in batch if item.missing for name in judge.dimensions}
        judgements |= {key: _missing(judge, key, why) for key, why in keys.items()}
        if progress is not None:
            progress(len(batch))
    scales = {judgement.dimension: judgement.scale for judgement in judgements.values() if judgement.scale > 0}
    ordered = [judgements[item.completion, dimension] for item in items for dimension in judge.dimensions]
    return Verdicts(tuple(_with_scale(judgement, scales) for judgement in ordered), _total(usages))


def _ask(judge: Judge, batch: list[JudgeItem], retries: int, wait: float) -> tuple[Verdicts, str]:
    """The judge's verdicts on a batch and an empty text; no verdicts and the error's text where it could not judge."""
    for attempt in range(retries + 1):
        try:
            return _verdicts(judge, batch), ""
        except JudgeError as error:
            if not error.retryable or attempt == retries:
                return Verdicts(()), str(error)
        time.sleep(wait * 2**attempt)
    raise PsrError("a judge cannot be asked fewer times than once", expected="retries of 0 or more", got=str(retries))


def _verdicts(judge: Judge, batch: list[JudgeItem]) -> Verdicts:
    """One call of the judge, its judgements as a tuple. Raises PsrError unless it returns Verdicts of Judgements."""
    try:
        verdicts = judge(batch)
        if not isinstance(verdicts, Verdicts) or not isinstance(verdicts.usage, Usage):
            raise _no_verdicts(judge, "Verdicts of judgements and usage", verdicts)
        if not isinstance(verdicts.judgements, Iterable):
            raise _no_verdicts(judge, "a sequence of judgements", verdicts.judgements)
        judgements = tuple(verdicts.judgements)
    except PsrError:
        raise
    except Exception as error:
        raise PsrError(
            "a judge failed with an error of its own",
            where=f"judge {judge.id}",
            expected="verdicts or JudgeError",
            got=f"{type(error).__name__}: {error}",
            do="Mend the judge.",
        ) from error
    for judgement in judgements:
        if not isinstance(judgement, Judgement):
            raise _no_verdicts(judge, "a Judgement for each item and dimension", judgement)
    return replace(verdicts, judgements=judgements)


def _no_verdicts(judge: Judge, expected: str, got: Any) -> PsrError:
    return PsrError(
        "a judge answered with something else than judgements",
        where=f"judge {judge.id}",
        expected=expected,
        got=f"{type(got).__name__} {_shown(got)}",
        do="Mend the judge.",
    )


def _accept(judge: Judge, batch: list[JudgeItem], verdicts: Verdicts, error: str) -> dict[Key, Judgement]:
    """One judgement for each (completion, dimension) of the batch: the judge's, or one without a value."""
    wanted = {(item.completion, dimension) for item in batch for dimension in judge.dimensions}
    judged: dict[Key, Judgement] = {}
    for judgement in verdicts.judgements:
        key = (judgement.completion, judgement.dimension)
        is_wanted = all(isinstance(part, str) for part in key) and key in wanted
        if not is_wanted or key in judged or (judgement.judge, judgement.rubric) != (judge.id, judge.rubric):
            raise PsrError(
                "a judge answered what it was not asked",
                where=f"judge {judge.id}",
                do="Mend the judge.",
                expected=f"one verdict by {judge.id} {judge.rubric} for each item on {', '.join(judge.dimensions)}",
                got=f"{'a second' if is_wanted and key in judged else 'one'} on {_shown(key)} by {judgement.judge} {judgement.rubric}",
            )
        judged[key] = _checked(judgement, judgement.dimension in getattr(judge, "unbounded", ()))
    return {key: judged.get(key) or _missing(judge, key, error or "the judge returned no verdict") for key in wanted}


def _checked(judgement: Judgement, unbounded: bool) -> Judgement:
    """`judgement` with its value and scale as floats; without its value where that is no number, or outside [0, scale]."""
    value, scale = _number(judgement.value), _number(judgement.scale)
    if scale is None or scale <= 0:
        scale, wrong = 0.0, f"scale {_shown(judgement.scale)} is not a positive number"  # 0: as in `_missing`
    elif value is None or not (unbounded or 0 <= value <= scale):
        wrong = f"value {_shown(judgement.value)} is not a {'finite number' if unbounded else f'number from 0 to {scale:g}'}"
    else:
        return replace(judgement, value=value, scale=scale)
    if judgement.value is None:
        wrong = judgement.error or "the judge gave no value and no reason"
    return replace(judgement, value=None, scale=scale, error=wrong)


def _number(value: Any) -> float | None:
    """A finite real number as a float, None for anything else; a scalar of numpy or torch is the number it holds."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Real | Decimal) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an integer too large for a float; a signalling Decimal
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _missing(judge: Judge, key: Key, error: str) -> Judgement:
    """A judgement that was not made. Its scale is 0 until `_with_scale` replaces it."""
    completion, dimension = key
    return Judgement(completion, judge.id, judge.rubric, dimension, None, 0.0, error=error)


def _with_scale(judgement: Judgement, scales: dict[str, float]) -> Judgement:
    """Give a judgement that was not made the scale of the others on its dimension."""
    return judgement if judgement.scale > 0 else replace(judgement, scale=scales.get(judgement.dimension, 0.0))


def _total(usages: Iterable[Usage]) -> Usage:
    usages = list(usages)
    return Usage(sum(u.calls for u in usages), sum(u.tokens_in for u in usages), sum(u.tokens_out for u in usages))
