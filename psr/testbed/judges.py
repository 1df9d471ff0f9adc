"""The testbed's judges: `psr.testbed.rating` with the interface of a judge. Exact, and without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psr.errors import JudgeError, PsrError
from psr.testbed.concepts import Concept, concept_named
from psr.testbed.formats import Format, format_for, format_named
from psr.testbed.rating import rate_concept, rate_format, rate_persona
from psr.testbed.traits import Trait, trait_named
from psr.types import Attribute, JudgeItem, Judgement, Usage, Verdicts

RUBRIC = "1"


def _trait(attribute: Attribute) -> Trait:
    return trait_named(attribute.name)


def _concept(attribute: Attribute) -> Concept:
    return concept_named(str(dict(attribute.kwargs).get("concept", attribute.name)))


def format_of(attribute: Attribute) -> Format:
    """The format that an attribute asks for: by IFEval's instruction id and arguments if it has them, else by name."""
    kwargs = dict(attribute.kwargs)
    instruction = kwargs.pop("instruction_id", None)
    return format_named(attribute.name) if instruction is None else format_for(str(instruction), kwargs)


@dataclass(frozen=True)
class Scheme:
    """What a benchmark's judge rates: dimension names, their common scale, and `rate` with values in [0, top].

    named: attribute -> the grammar's trait, format or concept; raises PsrError where there is none.
    """

    dimensions: tuple[str, ...]
    scale: float
    top: float
    named: Callable[[Attribute], Any]
    rate: Callable[[str, str, Any], tuple[float, ...]]


SCHEMES = {
    "persona": Scheme(
        ("trait", "coherence"), 100.0, 1.0, _trait,
        lambda question, text, trait: rate_persona(question, text, trait.decorations),
    ),
    "ifeval": Scheme(("accuracy", "coherence", "accuracy_loose"), 100.0, 1.0, format_of, rate_format),
    "axbench": Scheme(("concept", "instruction", "fluency"), 2.0, 2.0, _concept, rate_concept),
}  # fmt: skip


@dataclass(frozen=True)
class TestbedJudge:
    """Judges one benchmark's answers. attributes: key -> Attribute; a name of the grammar needs no entry.

    An item that cannot be judged (another question, an unknown attribute) has judgements without a value that say why;
    the other items of its batch are judged.
    """

    __test__ = False  # pytest would collect it by its name

    benchmark: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    rubric = RUBRIC

    def __post_init__(self) -> None:
        if self.benchmark not in SCHEMES:
            raise PsrError(
                "the testbed has no judge for this benchmark",
                expected=f"one of {', '.join(SCHEMES)}",
                got=repr(self.benchmark),
            )

    @property
    def id(self) -> str:
        return f"testbed-{self.benchmark}"

    @property
    def dimensions(self) -> tuple[str, ...]:
        return SCHEMES[self.benchmark].dimensions

    def refuses(self, attribute: Attribute) -> str:
        """Why it cannot judge answers for the attribute; empty where it can."""
        try:
            SCHEMES[self.benchmark].named(attribute)
        except PsrError as error:
            return str(error)
        return ""

    def reads(self, attribute: str) -> object:
        """What its verdicts on an attribute depend on, as values of JSON."""
        entry = self.attributes.get(attribute)
        return None if entry is None else [entry.name, entry.rubric, entry.kwargs]

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        judged = tuple(judgement for item in items for judgement in self._judgements(item))
        return Verdicts(judged, Usage(calls=len(items)))

    def rate(self, item: JudgeItem) -> tuple[float, ...]:
        """One value in [0, scale] per dimension. Raises JudgeError (no retry helps) for what is not the testbed's."""
        scheme = SCHEMES[self.benchmark]
        attribute = self.attributes.get(item.attribute) or _bare(item.attribute)
        try:
            values = scheme.rate(item.question, item.text, scheme.named(attribute))
        except JudgeError:
            raise
        except PsrError as error:
            raise JudgeError(str(error), retryable=False) from error
        return tuple(value / scheme.top * scheme.scale for value in values)

    def _judgements(self, item: JudgeItem) -> tuple[Judgement, ...]:
        try:
            values, error = self.rate(item), ""
        except JudgeError as raised:
            values, error = (), str(raised)
        row = values or (None,) * len(self.dimensions)
        scale = SCHEMES[self.benchmark].scale
        return tuple(
            Judgement(item.completion, self.id, self.rubric, dimension, value, scale, error=error)
            for dimension, value in zip(self.dimensions, row, strict=True)
        )


def _bare(key: str) -> Attribute:
    """An attribute of which only the key is known."""
    benchmark, _, name = key.rpartition("/")
    return Attribute(benchmark, name, (), (), (), (), (), RUBRIC)
