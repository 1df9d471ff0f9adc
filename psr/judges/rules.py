"""The judge `rules`: code that can be read in place of a model. It costs nothing and never doubts.

persona    trait: the share of sentences that show it (psr.judges.traits), for the everyday traits
ifeval     accuracy and accuracy_loose: 0 or 100, IFEval's own checkers (psr.judges.checkers; needs the extra `rules`)
both       coherence: crude (psr.judges.sense)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psr.errors import PsrError
from psr.judges import checkers
from psr.judges.sense import rate_sense
from psr.judges.traits import TRAITS, rate_trait
from psr.types import Attribute, JudgeItem, Judgement, Usage, Verdicts

DIMENSIONS = {"persona": ("trait", "coherence"), "ifeval": ("accuracy", "coherence", "accuracy_loose")}


@dataclass(frozen=True)
class RulesJudge:
    """Judges one benchmark's answers by rules. `attributes`: key -> Attribute; an everyday trait needs no entry.

    Raises PsrError for a benchmark that rules cannot judge.

    Example:
        judge = RulesJudge("persona", {})
        psr.judge_all(judge, [psr.JudgeItem("a", "persona/pirate", "What is rain?", "Arr, 'tis water, matey!")])
    """

    benchmark: str
    attributes: Mapping[str, Attribute]

    rubric = "1"

    def __post_init__(self) -> None:
        if self.benchmark not in DIMENSIONS:
            raise PsrError(
                "rules cannot judge this benchmark",
                expected=f"one of {', '.join(DIMENSIONS)}",
                got=repr(self.benchmark),
            )

    @property
    def id(self) -> str:
        return f"rules-{self.benchmark}"

    @property
    def dimensions(self) -> tuple[str, ...]:
        return DIMENSIONS[self.benchmark]

    def refuses(self, attribute: Attribute) -> str:
        """Why it has no rule for the attribute; empty where it has one."""
        if self.benchmark == "ifeval":
            return checkers.refusal(dict(attribute.kwargs))
        return "" if attribute.name in TRAITS else f"it has rules for {', '.join(TRAITS)}"

    def reads(self, attribute: str) -> object:
        """What decides its verdicts beside the answers: the trait's pattern; the checker's arguments and versions."""
        if self.benchmark == "ifeval":
            entry = self.attributes.get(attribute)
            return [entry and entry.kwargs, checkers.versions()]
        pattern = TRAITS.get(_name(attribute))
        return pattern and pattern.pattern

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        """A judgement for each item and dimension, item by item; one that cannot be made has no value and says why."""
        return Verdicts(tuple(one for item in items for one in self._judgements(item)), Usage(calls=len(items)))

    def _judgements(self, item: JudgeItem) -> list[Judgement]:
        try:
            rated, error = self._rate(item), ""
        except PsrError as refused:
            rated, error = {}, str(refused)
        return [
            Judgement(item.completion, self.id, self.rubric, name, rated.get(name), 100.0, error=error)
            for name in self.dimensions
        ]

    def _rate(self, item: JudgeItem) -> dict[str, float]:
        """dimension -> value. Raises PsrError for an attribute without a rule."""
        coherence = rate_sense(item.text)
        if self.benchmark == "persona":
            trait = _name(item.attribute)
            if trait not in TRAITS:
                raise PsrError("no rule for this trait", expected=f"one of {', '.join(TRAITS)}", got=repr(trait))
            return {"trait": rate_trait(trait, item.text), "coherence": coherence}
        if item.attribute not in self.attributes:
            raise PsrError(
                "this judge was not given the attribute", expected=", ".join(self.attributes), got=item.attribute
            )
        strict, loose = checkers.follows(dict(self.attributes[item.attribute].kwargs), item.text)
        return {"accuracy": 100.0 * strict, "coherence": coherence, "accuracy_loose": 100.0 * loose}


def _name(attribute: str) -> str:
    return attribute.partition("/")[2]
