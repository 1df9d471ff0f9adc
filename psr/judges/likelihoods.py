"""The judge `likelihood` of a benchmark: a likelihood judge for each attribute, and rules beside it where they have a say.

It is calibrated once, on the model's own answers to the fitting questions, and judges all later answers by those marks.

persona    trait: the prompt's effect (psr.judges.likelihood); words: the trait by a word rule, where there is one
ifeval     accuracy, accuracy_loose: IFEval's checkers, which are what the benchmark asks; effect: the prompt's effect
both       coherence: by likelihood
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.judges.likelihood import LikelihoodJudge, agreement, likelihood_judge
from psr.judges.rules import RulesJudge
from psr.types import Attribute, JudgeItem, Judgement, Usage, Verdicts

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

LIKELIHOOD, RULES = "likelihood", "rules"
EFFECT = (LIKELIHOOD, "trait")
SENSE = (LIKELIHOOD, "coherence")
SOURCES = {  # benchmark -> dimension -> which judge rates it, and what that judge calls it
    "persona": {"trait": EFFECT, "coherence": SENSE, "words": (RULES, "trait")},
    "ifeval": {
        "accuracy": (RULES, "accuracy"),
        "coherence": SENSE,
        "accuracy_loose": (RULES, "accuracy_loose"),
        "effect": EFFECT,
    },
}
OPTIONAL = ("words",)  # missing where there is no rule
NO_SETTING = {"setting": False}  # a field that parameters do not set


@dataclass(frozen=True)
class Calibration:
    """What one attribute's judge was calibrated to. judge: all of a LikelihoodJudge but its model; agreement: the AUC of its
    trait between prompted answers that the rule gives less than half and the others, None where no rule tells them apart."""

    judge: Mapping[str, Any]
    agreement: float | None = None


@dataclass(frozen=True)
class Likelihoods:
    """Judges one benchmark's answers, each attribute by its own likelihood judge.

    `attributes`: key -> Attribute, whose held-out instructions are what it reads with. calibrations: key -> Calibration;
    open_model: opens the model. Both are missing until `ready`, and then nothing can be judged.
    Raises PsrError for a benchmark that it cannot judge.
    """

    benchmark: str
    attributes: Mapping[str, Attribute]
    answers: int = 32
    """Answers of either side that each attribute's judge is calibrated on, at most."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict, metadata=NO_SETTING)
    open_model: Callable[[], Any] | None = field(default=None, metadata=NO_SETTING)

    id = "likelihood"
    rubric = "1"

    def __post_init__(self) -> None:
        if self.benchmark not in SOURCES:
            raise PsrError(
                "likelihoods cannot judge this benchmark",
                expected=f"one of {', '.join(SOURCES)}",
                got=repr(self.benchmark),
            )

    @property
    def sources(self) -> Mapping[str, tuple[str, str]]:
        return SOURCES[self.benchmark]

    @property
    def dimensions(self) -> tuple[str, ...]:
        return tuple(self.sources)

    @property
    def unbounded(self) -> tuple[str, ...]:
        return tuple(name for name, source in self.sources.items() if source == EFFECT)

    @property
    def rules(self) -> RulesJudge:
        return RulesJudge(self.benchmark, self.attributes)

    def refuses(self, attribute: Attribute) -> str:
        """Why it cannot judge the attribute; empty where it can."""
        if not attribute.held_out:
            return "it reads with held-out instructions, and there is none"
        needed = any(judge == RULES for name, (judge, _) in self.sources.items() if name not in OPTIONAL)
        return self.rules.refuses(attribute) if needed else ""

    def calibrate(
        self, lm: LanguageModel, attribute: str, plain: Sequence[JudgeItem], prompted: Sequence[JudgeItem]
    ) -> Calibration:
        """The marks of one attribute's judge, from answers without and with the prompt.

        Raises PsrError as `likelihood_judge`: where it cannot tell one from the other, among others.
        """
        few = [_spread(side, self.answers) for side in (plain, prompted)]
        judge = likelihood_judge(lm, self.attributes[attribute].held_out, *few)
        marks = {name: getattr(judge, name) for name in ("instructions", "plain", "prompted", "good", "bad", "auc")}
        return Calibration({**marks, "spoilt": dict(judge.spoilt)}, self._agreement(judge, attribute, few[1]))

    def _agreement(self, judge: Judge, attribute: str, prompted: Sequence[JudgeItem]) -> float | None:
        rule = next(name for source, name in self.sources.values() if source == RULES)
        if self.rules.refuses(self.attributes[attribute]):
            return None
        value = agreement(judge, self.rules, prompted, rule)
        return None if value != value else value

    def ready(self, open_model: Callable[[], Any], calibrations: Mapping[str, Calibration]) -> Likelihoods:
        """The judge with what it needs to judge."""
        return replace(self, open_model=open_model, calibrations=dict(calibrations))

    def reads(self, attribute: str) -> object:
        """What decides its verdicts beside the answers: its marks, and what decides the rule's."""
        calibration = self.calibrations.get(attribute)
        marks = calibration and repr(sorted(calibration.judge.items()))  # as text: a mark may be infinite
        return [marks, self.rules.reads(attribute)]

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        """A judgement for each item and dimension, item by item; one that cannot be made has no value and says why."""
        values: dict[tuple[str, str, str], Judgement] = {}
        usages = []
        for attribute in dict.fromkeys(item.attribute for item in items):
            own = [item for item in items if item.attribute == attribute]
            judges: dict[str, Judge] = {LIKELIHOOD: self._likelihood(attribute), RULES: self.rules}
            for name, judge in judges.items():
                verdicts = judge(own)
                usages.append(verdicts.usage)
                values |= {(one.completion, name, one.dimension): one for one in verdicts.judgements}
        rows = (
            replace(values[item.completion, *source], judge=self.id, rubric=self.rubric, dimension=dimension)
            for item in items
            for dimension, source in self.sources.items()
        )
        return Verdicts(tuple(rows), Usage(calls=sum(usage.calls for usage in usages)))

    def _likelihood(self, attribute: str) -> LikelihoodJudge:
        if self.open_model is None or attribute not in self.calibrations:
            raise PsrError(
                "this judge is not calibrated",
                where=f"judge {self.id}, {attribute}",
                expected=f"one of {', '.join(self.calibrations) or 'no attribute'}",
                do="Judge the answers to the fitting questions first: the step `select` does.",
            )
        return LikelihoodJudge(self.open_model(), **self.calibrations[attribute].judge)


def _spread(items: Sequence[JudgeItem], most: int) -> list[JudgeItem]:
    """At most `most` items, evenly from the whole."""
    few = min(most, len(items))
    return [items[at * len(items) // few] for at in range(few)]
