"""Other wordings of an instruction, by templates, and whether they act like it.

The likelihood judge reads answers with wordings that no module is fitted on. A wording acts like the instruction where it
moves the same answers as far: the gap between prompted and plain answers, in c (psr/judges/reading.py), is at least LEAST of
the instruction's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from psr.errors import PsrError
from psr.judges.likelihood import auc
from psr.judges.reading import read_answers
from psr.types import JudgeItem

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

TEMPLATES = (
    "From now on, follow this instruction in every answer: {}",
    "You are an assistant. {}",
    "{} Do so in every answer.",
    "Answer every question in this way: {}",
)
LEAST = 0.5
USED = 2  # wordings that a judge reads with: each costs a forward of every answer


def templated(instruction: str) -> tuple[str, ...]:
    """`instruction` in other wordings.

    Example:
        templated("Talk like a pirate.")[2]  # "Talk like a pirate. Do so in every answer."
    """
    return tuple(template.format(instruction.strip()) for template in TEMPLATES)


class Tried(NamedTuple):
    """able: the AUC of the instruction's own c between plain and prompted answers; far: how far each wording moves answers, the
    instruction being 1 (nan where it does not move them)."""

    able: float
    far: Mapping[str, float]

    @property
    def alike(self) -> tuple[str, ...]:
        """The wordings that act like the instruction, at most USED of them, in order."""
        return tuple(wording for wording, far in self.far.items() if far >= LEAST)[:USED]


def try_wordings(
    lm: LanguageModel,
    instruction: str,
    wordings: Sequence[str],
    plain: Sequence[JudgeItem],
    prompted: Sequence[JudgeItem],
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> Tried:
    """Read plain and prompted answers with the instruction and with each wording."""
    readings = read_answers(lm, (instruction, *wordings), [*plain, *prompted], batch_size=batch_size, progress=progress)
    sides = [
        np.array([one.by for one in side if one is not None]).reshape(-1, 1 + len(wordings))
        for side in (readings[: len(plain)], readings[len(plain) :])
    ]
    if not all(map(len, sides)):
        return Tried(math.nan, dict.fromkeys(wordings, math.nan))
    gaps = sides[1].mean(axis=0) - sides[0].mean(axis=0)
    far = gaps[1:] / gaps[0] if gaps[0] > 0 else np.full(len(wordings), math.nan)
    return Tried(auc(sides[0][:, 0], sides[1][:, 0]), dict(zip(wordings, far.tolist(), strict=True)))


def check_alike(tried: Tried) -> None:
    """Raise PsrError, with how far each one moves the answers, where no wording acts like the instruction."""
    if not tried.alike:
        raise PsrError(
            "no other wording acts like the instruction",
            expected=f"one that moves answers {LEAST:g} times as far at least",
            got="; ".join(f"{far:.2f} by {wording!r}" for wording, far in tried.far.items()),
            do="Give wordings of your own as paraphrases.",
        )
