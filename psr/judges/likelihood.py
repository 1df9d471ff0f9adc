"""A judge that needs no one else: the model's own likelihoods say how much of the prompt is in an answer, and whether it is sound.

    trait       100 · (c(y) − c_plain) / (c_prompted − c_plain): 0 as plain answers on average, 100 as prompted ones
    coherence   100 · min over flaws of (bad − flaw) / (bad − good), between 0 and 1 for each

c and the flaws are those of psr/judges/reading.py, c_plain and c_prompted means over answers that were given. A flaw is good
up to what most of these answers have, and bad from what most of them have when they are spoilt (psr/judges/spoilt.py).

Its limits: it says "as the prompt makes it", not "shows the trait": where a model obeys half of the time, half is 100. It
knows only what the model knows, and is not fair to methods that are trained on likelihoods (LL, KL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.judges.judging import Judge, judge_all
from psr.judges.reading import FLAWS, Reading, read_answers
from psr.judges.spoilt import spoil
from psr.lm.surprise import BATCH
from psr.types import Attribute, JudgeItem, Judgement, Usage, Verdicts

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

ABLE = 0.9  # AUC between plain and prompted answers below which it cannot tell one from the other
LEAST = 8  # answers of each side that it is calibrated on
SPOILT = 16  # answers of each kind that are spoilt, at most
USUAL, CAUGHT = 0.9, 0.25  # quantiles: a flaw is good up to this one of good answers, bad from this one of spoilt ones
KINDS = {  # flaw -> the kinds of spoilt answers that it is there to find
    "loss": ("salad", "random tokens"),
    "break": ("mixed",),
    "repetition": ("loop of common words", "loop of the instruction's words"),
    "ending": ("cut",),
}


@dataclass(frozen=True, eq=False)
class LikelihoodJudge:
    """Judges answers to any question by the likelihoods of `lm`; `likelihood_judge` makes one.

    instructions: wordings of the prompt that no module was fitted on. plain, prompted: mean c of such answers, in nats a token.
    good, bad: the marks of each flaw, in the order of psr.judges.reading.FLAWS. auc: how well c tells the prompted
    answers from the plain ones; spoilt: kind -> how well coherence tells sound answers from those (0.5: not at all).
    readings: of the answers that it was made from, which are not read again.
    """

    lm: LanguageModel
    instructions: tuple[str, ...]
    plain: float
    prompted: float
    good: tuple[float, ...]
    bad: tuple[float, ...]
    auc: float
    spoilt: Mapping[str, float] = field(default_factory=dict)
    readings: Mapping[JudgeItem, Reading | None] = field(default_factory=dict, repr=False)
    batch_size: int = BATCH

    id = "likelihood"
    rubric = "1"
    dimensions = ("trait", "coherence")
    unbounded = ("trait",)

    def refuses(self, attribute: Attribute | None = None) -> str:
        """Why it cannot judge, empty where it can: too little of the prompt shows in the answers."""
        return "" if self.auc >= ABLE else (
            f"the likelihood judge tells prompted answers from plain ones with AUC {self.auc:.2f}, below {ABLE}"
        )  # fmt: skip

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        """A judgement of trait and one of coherence for each item; without a value where there is no answer."""
        fresh = [item for item in dict.fromkeys(items) if item not in self.readings]
        read = read_answers(self.lm, self.instructions, fresh, batch_size=self.batch_size)
        readings = {**self.readings, **dict(zip(fresh, read, strict=True))}
        values = [self._values(readings[item]) for item in items]
        rows = [
            (item, name, of_item[name]) for item, of_item in zip(items, values, strict=True) for name in self.dimensions
        ]
        judged = tuple(
            Judgement(
                item.completion,
                self.id,
                self.rubric,
                name,
                value,
                100.0,
                error="" if value is not None else "no answer",
            )
            for item, name, value in rows
        )
        return Verdicts(judged, Usage(calls=len(fresh) * (1 + len(self.instructions))))

    def _values(self, reading: Reading | None) -> dict[str, float | None]:
        if reading is None:
            return dict.fromkeys(self.dimensions)
        trait = 100 * (reading.effect - self.plain) / (self.prompted - self.plain)
        return {"trait": trait, "coherence": coherence(reading, self.good, self.bad)}


def likelihood_judge(
    lm: LanguageModel,
    instructions: Sequence[str],
    plain: Sequence[JudgeItem],
    prompted: Sequence[JudgeItem],
    *,
    seed: int = 0,
    batch_size: int = BATCH,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> LikelihoodJudge:
    """A judge whose marks are the answers given: the model's own, without the prompt and with it.

    instructions: wordings of the prompt, best those that no module is fitted on. seed: of the spoilt answers. force: make the
    judge even where it cannot tell the two apart. progress(n): of answers read, each behind every prompt.
    Raises PsrError for no instruction, fewer than LEAST answers a side, an AUC below ABLE, and, forced or not, where
    prompted answers are not above plain ones at all.

    Example:
        judge = likelihood_judge(lm, ["Be a pirate while you answer."], plain_items, pirate_items)
        psr.judge_all(judge, [psr.JudgeItem("a", "my/pirate", "What is rain?", "Rain be water, matey!")])
    """
    sides = [[item for item in side if item.text.strip()] for side in (plain, prompted)]
    if not instructions or min(map(len, sides)) < LEAST:
        raise PsrError(
            "a likelihood judge lacks what it is calibrated on",
            expected=f"an instruction, and {LEAST} answers that are not empty without it and as many with it",
            got=f"{len(instructions)} instructions, {len(sides[0])} plain and {len(sides[1])} prompted answers",
        )
    spoilt = spoil(lm.tokenizer, sides[0][:SPOILT], sides[1][:SPOILT], seed)
    groups = {"plain": sides[0], "prompted": sides[1], **{kind: items[::2] for kind, items in spoilt.items()}}
    items = [item for side in groups.values() for item in side]
    read = read_answers(lm, instructions, items, batch_size=batch_size, progress=progress)
    of_item = dict(zip(items, read, strict=True))
    readings = {name: [one for item in side if (one := of_item[item]) is not None] for name, side in groups.items()}
    own = [*readings["plain"], *readings["prompted"]]
    good, bad = marks(own, {kind: readings[kind] for kind in spoilt})
    c = {name: np.array([reading.effect for reading in readings[name]]) for name in ("plain", "prompted")}
    sound = [coherence(reading, good, bad) for reading in own]
    judge = LikelihoodJudge(
        lm,
        tuple(instructions),
        float(c["plain"].mean()),
        float(c["prompted"].mean()),
        good,
        bad,
        auc(c["plain"], c["prompted"]),
        {kind: auc([coherence(reading, good, bad) for reading in readings[kind]], sound) for kind in spoilt},
        of_item,
        batch_size,
    )
    if not judge.prompted > judge.plain:
        raise PsrError(
            "this judge cannot tell",
            expected="prompted answers that are more likely with the prompt than plain ones are",
            got=f"c of {judge.prompted:.3f} and {judge.plain:.3f} nats a token",
            do="Use a prompt that the model follows, or another judge.",
        )
    if judge.refuses() and not force:
        raise PsrError(
            "this judge cannot tell",
            expected=f"an AUC of at least {ABLE} between plain and prompted answers",
            got=f"{judge.auc:.2f}",
            do="Use a prompt that the model follows, longer answers, or another judge.",
        )
    return judge


def marks(
    own: Sequence[Reading], spoilt: Mapping[str, Sequence[Reading]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Up to where each flaw is good and from where it is bad, in the order of FLAWS; both infinite where nothing is known."""
    good, bad = [], []
    for i, flaw in enumerate(FLAWS):
        of_own = _known(reading.flaws[i] for reading in own)
        of_spoilt = [_known(reading.flaws[i] for reading in spoilt.get(kind, ())) for kind in KINDS[flaw]]
        caught = [float(np.quantile(values, CAUGHT)) for values in of_spoilt if len(values)]
        usual = float(np.quantile(of_own, USUAL)) if len(of_own) else min(caught, default=np.inf) / 2
        good.append(usual if caught else np.inf)
        bad.append(max(min(caught), usual) if caught else np.inf)
    return tuple(good), tuple(bad)


def coherence(reading: Reading, good: Sequence[float], bad: Sequence[float]) -> float:
    """100 where no flaw is larger than its good mark, 0 where one reaches its bad mark; in between, the worst flaw's share."""
    shares = [
        1.0 if not flaw > low else 0.0 if flaw >= high else (high - flaw) / (high - low)
        for flaw, low, high in zip(reading.flaws, good, bad, strict=True)
    ]
    return 100 * min(shares)


def auc(lower: ArrayLike, higher: ArrayLike) -> float:
    """The chance that one of `higher` is above one of `lower`, ties counted half; nan where either is empty."""
    one, other = np.asarray(lower, dtype=np.float64), np.asarray(higher, dtype=np.float64)
    if not len(one) or not len(other):
        return float("nan")
    differences = other[:, np.newaxis] - one[np.newaxis]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


def agreement(judge: Judge, rule: Judge, items: Sequence[JudgeItem], dimension: str = "trait") -> float:
    """How well `judge` orders answers as `rule` does: the AUC of its trait between those that the rule gives less than half of
    its scale and the others. Best asked of prompted answers alone. nan where the rule sees no difference.

    dimension: what the rule calls the trait, such as "accuracy".
    """
    theirs = {one.completion: one for one in judge_all(rule, items).judgements if one.dimension == dimension}
    ours = {one.completion: one.value for one in judge_all(judge, items).judgements if one.dimension == "trait"}
    sides: dict[bool, list[float]] = {False: [], True: []}
    for completion, value in ours.items():
        verdict = theirs[completion]
        if value is not None and verdict.value is not None:
            sides[verdict.value >= verdict.scale / 2].append(value)
    return auc(sides[False], sides[True])


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not np.isnan(value)]
