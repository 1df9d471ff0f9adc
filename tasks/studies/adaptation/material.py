"""The input of the comparison: an attribute's triplets, answers and judgements in a finished profile's first repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import sampling_seeds
from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, PLAIN, AlignedTokens, Attribute, PromptPair
from tasks.asking.calibration import ready
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.judges import judges_named
from tasks.figures.sides import Side, sides
from tasks.steps.distill import Material
from tasks.tables.triplets import triplets_by_attribute

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

NEEDED = (
    "complete/completions.parquet",
    "select/triplets.parquet",
    "distill/modules.parquet",
    "search/judgements.parquet",
    "steer/completions.parquet",
    "judge/judgements.parquet",
    "results/figures_seeds.parquet",
)


@dataclass(frozen=True)
class Case:
    """One attribute in the profile's first repetition. search, evaluation: the stored answers to both sets of questions;
    unrelated: plain answers to other attributes' evaluation questions, aligned with this attribute's prompts on span QR.
    settings: the profile's parameters."""

    data: Path
    attribute: Attribute
    material: Material
    judge: Judge
    search: Side
    evaluation: Side
    unrelated: Sequence[AlignedTokens]
    settings: Mapping[str, Any]

    @property
    def lm(self) -> LanguageModel:
        return self.material.lm

    @property
    def seed(self) -> int:
        """The fit seed."""
        return self.settings["seeds"][0]

    @property
    def bootstrap(self) -> Mapping[str, Any]:
        """Resamples and seed of every interval."""
        return self.settings["results"]

    def sampled(self, section: str) -> tuple[int, ...]:
        """The sampling seeds of the section "search", or "steer" for the evaluation."""
        section_settings = self.settings[section]
        return sampling_seeds(self.settings["seeds"], section_settings["seed"], section_settings["samples"])[self.seed]

    @property
    def reads(self) -> tuple[object, ...]:
        """What the figures of an adapter depend on, besides its fit."""
        answers = [
            [(c.id, c.token_ids, [side.values[c.id, name] for name in ("trait", "coherence")])
             for method in (PLAIN, INSTRUCTED) for c in side.of(method)]
            for side in (self.search, self.evaluation)
        ]  # fmt: skip
        settings = [self.settings[name] for name in ("sampling", "search", "results")]
        sampled = [self.sampled(section) for section in ("search", "steer")]
        return self.judge.id, self.judge.rubric, answers, [vars(one) for one in self.unrelated], settings, sampled


def wanted(attributes: Sequence[Attribute], names: Sequence[str]) -> tuple[Attribute, ...]:
    """Persona's attributes, or those of them called `names`. Raises PsrError that lists the known ones.

    The other benchmarks have no trait alignment at the prompt's coherence.
    """
    by_name = {attribute.name: attribute for attribute in attributes if attribute.benchmark == "persona"}
    if not by_name:
        raise PsrError(
            "adaptation is compared at the prompt's coherence",
            expected="a profile with attributes of persona",
            got="none",
            do="Choose another --profile.",
        )
    bare = [name.removeprefix("persona/") for name in names]
    unknown = [name for name in bare if name not in by_name]
    if unknown:
        raise PsrError(
            "no such attribute of the profile",
            where="--attribute",
            expected=f"some of {', '.join(by_name)}",
            got=", ".join(map(repr, unknown)),
            do="Correct the name.",
        )
    return tuple(by_name[name] for name in by_name if name in bare or not bare)


def load(data: Path, settings: Mapping[str, Any], model: ModelSettings, attributes: Sequence[Attribute]) -> list[Case]:
    """One case per attribute. Raises PsrError: missing or damaged tables, an attribute without triplets or answers."""
    lm, seed = open_model(model), settings["seeds"][0]
    judge = ready(judges_named(attributes, **settings["judge"]), data / "select", model)["persona"]
    triplets = triplets_by_attribute(data / "complete", data / "select")
    searched, evaluated = sides(data / "search", data / "search"), sides(data / "steer", data / "judge")
    others = [side for (_, fit_seed), side in sorted(evaluated.items(), key=lambda one: one[0]) if fit_seed == seed]
    cases = []
    for attribute in attributes:
        key = (attribute.key, seed)
        if attribute.key not in triplets or key not in searched or key not in evaluated:
            raise PsrError(
                "an attribute has no triplets or answers",
                where=data,
                expected=f"{attribute.key}, seed {seed}",
                got="none",
                do="Reproduce the profile again.",
            )
        material = Material(attribute.key, triplets[attribute.key], {}, lm)
        unrelated = unrelated_answers(lm, attribute, others, evaluated[key])
        cases.append(Case(data, attribute, material, judge, searched[key], evaluated[key], unrelated, settings))
    return cases


def unrelated_answers(
    lm: LanguageModel, attribute: Attribute, others: Sequence[Side], evaluation: Side
) -> list[AlignedTokens]:
    """Stored plain answers to other attributes' evaluation questions that this one is neither fitted nor evaluated on, one a
    question; in a profile without any, the answers to its own evaluation questions. x′ has its held-out instructions."""
    from psr.lm.alignment import align

    own_questions = {*attribute.questions, *(pair.question for pair in evaluation.pairs)}
    plain = _plain(others)
    foreign = {question: ids for question, ids in plain.items() if question not in own_questions} or _plain(
        [evaluation]
    )
    instructions = attribute.held_out or attribute.instructions
    return [
        align(lm.tokenizer, PromptPair(attribute.key, question, instructions[i % len(instructions)]), ids, "QR")
        for i, (question, ids) in enumerate(foreign.items())
    ]


def _plain(sides: Sequence[Side]) -> dict[str, tuple[int, ...]]:
    """question -> token ids of its first plain answer."""
    tokens: dict[str, tuple[int, ...]] = {}
    for side in sides:
        questions = {pair.id: pair.question for pair in side.pairs}
        for answer in side.of(PLAIN):
            tokens.setdefault(questions[answer.pair], answer.token_ids)
    return tokens
