"""The input of the side effects: a finished profile's answers and modules, and the questions that nothing was meant to change.

unrelated      questions that have nothing to do with the attribute
formats        questions with a format instruction behind them, from the benchmark `ifeval` beside the attribute's own
conversations  the attribute's evaluation questions, each conversation from another one on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs, sampling_seeds, spread
from psr.answers.questions import everyday_questions
from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.judges.rules import RulesJudge
from psr.testbed.questions import FORMS
from psr.testbed.topics import TOPICS
from psr.types import Attribute, PromptPair
from tasks.asking.answers import Answerer
from tasks.asking.calibration import ready
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.catalogue import benchmark_named, load_attributes
from tasks.benchmarks.judges import judges_named
from tasks.engine.cells import Cells
from tasks.figures.sides import Side, sides

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel
    from tasks.benchmarks.contract import Benchmark

NEEDED = (
    "distill/modules.parquet",
    "search/judgements.parquet",
    "steer/completions.parquet",
    "judge/judgements.parquet",
)
TESTBED = "testbed"  # the judge of the testbed, whose model knows its own small language only
FORMATS = "ifeval"  # the benchmark that format instructions come from
EVERYDAY = Path("data", "everyday", FORMATS)  # where the attribute's benchmark has none beside it


@dataclass(frozen=True)
class Size:
    """How much is asked. questions: unrelated ones; formats: twice as many; conversations, of so many turns each."""

    questions: int
    conversations: int
    turns: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise PsrError(
                    "nothing can be measured on nothing", where=f"--{name}", expected="at least 1", got=value
                )


@dataclass(frozen=True)
class Case:
    """One attribute, all repetitions. searched, evaluation: repetition -> the stored answers to both sets of questions.

    unrelated, formats: pairs, whose instruction is the prompt's; conversations: [conversation][turn] of pairs.
    not_english: why it cannot be told whether answers keep their language, empty where it can.
    """

    data: Path
    attribute: Attribute
    benchmark: Benchmark
    judge: Judge
    answerer: Answerer
    searched: Mapping[int, Side]
    evaluation: Mapping[int, Side]
    unrelated: Sequence[PromptPair]
    formats: Sequence[PromptPair]
    format_judge: Judge
    conversations: Sequence[Sequence[PromptPair]]
    settings: Mapping[str, Any]
    not_english: str = ""

    @property
    def lm(self) -> LanguageModel:
        return open_model(self.answerer.model)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The repetitions."""
        return tuple(self.settings["seeds"])

    @property
    def draws(self) -> dict[str, int]:
        """Resamples and seed of every interval."""
        return dict(self.settings["results"])

    def sampled(self, section: str, seed: int) -> tuple[int, ...]:
        """The sampling seeds of the section "search", or "steer" for the evaluation, in one repetition."""
        own = self.settings[section]
        return sampling_seeds(self.settings["seeds"], own["seed"], own["samples"])[seed]


def wanted(settings: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[Attribute, Path], ...]:
    """The profile's attributes whose prompt was searched beside the modules, or those of them called `names`, each with its
    benchmark's folder.

    Raises PsrError that lists the known ones. Benchmarks that steer at one strength record no effect along α.
    """
    chosen = [one for one in settings["benchmarks"] if benchmark_named(one["name"]).strength.unsteered]
    known = {
        attribute.key: (attribute, Path(one["path"]))
        for one in chosen
        for attribute in load_attributes(one["name"], Path(one["path"]), one["attributes"])
    }
    if not known:
        raise PsrError(
            "side effects are compared where effects are equal",
            expected="a profile with attributes of persona, or of another benchmark with a search over α",
            got="none",
            do="Choose another --profile.",
        )
    unknown = [name for name in names if not any(name in (key, key.partition("/")[2]) for key in known)]
    if unknown:
        raise PsrError(
            "no such attribute of the profile",
            where="--attribute",
            expected=f"some of {', '.join(key.partition('/')[2] for key in known)}",
            got=", ".join(map(repr, unknown)),
            do="Correct the name.",
        )
    return tuple(known[key] for key in known if not names or key in names or key.partition("/")[2] in names)


def load(
    data: Path,
    settings: Mapping[str, Any],
    model: ModelSettings,
    attributes: Sequence[tuple[Attribute, Path]],
    size: Size,
    cells: Cells,
) -> list[Case]:
    """One case per attribute. Raises PsrError: missing or damaged tables, no answers to it, too few questions."""
    judges = ready(judges_named([one for one, _ in attributes], **settings["judge"]), data / "select", model)
    searched, evaluated = sides(data / "search", data / "search"), sides(data / "steer", data / "judge")
    answerer = Answerer(model, cells, **settings["sampling"], batch_size=settings["steer"]["batch_size"])
    testbed = settings["judge"]["name"] == TESTBED
    benchmarks = {one.name: one for one in (benchmark_named(each["name"]) for each in settings["benchmarks"])}
    cases = []
    for attribute, folder in attributes:
        own = {
            name: {seed: found[attribute.key, seed] for seed in settings["seeds"] if (attribute.key, seed) in found}
            for name, found in (("searched", searched), ("evaluation", evaluated))
        }
        if any(len(found) < len(settings["seeds"]) for found in own.values()):
            raise PsrError(
                "an attribute has no answers in one of its repetitions",
                where=data,
                expected=f"{attribute.key}, seeds {', '.join(map(str, settings['seeds']))}",
                got=", ".join(map(str, own["evaluation"])) or "none",
                do="Reproduce the profile again.",
            )
        formats, asked = format_pairs(attribute, folder, 2 * size.questions, testbed)
        cases.append(
            Case(
                data,
                attribute,
                benchmarks[attribute.benchmark],
                judges[attribute.benchmark],
                answerer,
                own["searched"],
                own["evaluation"],
                unrelated_pairs(attribute, size.questions, testbed),
                asked,
                _format_judge(formats, settings, testbed),
                conversations(attribute, settings["steer"]["questions"], size),
                settings,
                "the testbed's sentences are too few to tell a language by" if testbed else "",
            )
        )
    return cases


def wording(attribute: Attribute, i: int) -> str:
    """The prompt in one of the wordings that no module was fitted on, in turn."""
    wordings = attribute.held_out or attribute.instructions
    return wordings[i % len(wordings)]


def unrelated_pairs(attribute: Attribute, count: int, testbed: bool) -> tuple[PromptPair, ...]:
    """Everyday questions, for the testbed's model those of its language, none of which the attribute has on any side."""
    own = {*attribute.questions, *attribute.search, *attribute.evaluate}
    if testbed:
        every = [form.format(topic.name) for form in FORMS for topic in TOPICS]
    else:
        every = [question for side in everyday_questions() for question in side]
    chosen = spread([one for one in every if one not in own], count, f"questions unrelated to {attribute.key}")
    return tuple(PromptPair(attribute.key, question, wording(attribute, i)) for i, question in enumerate(chosen))


def format_pairs(
    attribute: Attribute, folder: Path, count: int, testbed: bool
) -> tuple[tuple[Attribute, ...], tuple[PromptPair, ...]]:
    """Format instructions that can be checked, and `count` questions with one of them behind each, the kinds in turn.

    A pair's attribute is the format, its question ends with the format's instruction, its own instruction is the prompt's.
    """
    beside = folder.parent / FORMATS
    place = beside if beside.exists() and folder.name != FORMATS else EVERYDAY
    formats = load_attributes(FORMATS, place)
    if not testbed:
        rules = RulesJudge(FORMATS, {one.key: one for one in formats})
        formats = tuple(one for one in formats if not rules.refuses(one))
    each = -(-count // len(formats))
    asked = [held_out_pairs(one, "evaluate", min(each, len(one.evaluate))) for one in formats]
    turns = [pair for i in range(each) for of_kind in asked for pair in of_kind[i : i + 1]][:count]
    return formats, tuple(
        PromptPair(pair.attribute, f"{pair.question} {pair.instruction}", wording(attribute, i))
        for i, pair in enumerate(turns)
    )


def _format_judge(formats: Sequence[Attribute], settings: Mapping[str, Any], testbed: bool) -> Judge:
    """Who checks formats: the testbed's own judge for its language, IFEval's checkers for any other."""
    if testbed:
        return judges_named(formats, **settings["judge"])[FORMATS]
    return RulesJudge(FORMATS, {one.key: one for one in formats})


def conversations(attribute: Attribute, questions: int | None, size: Size) -> tuple[tuple[PromptPair, ...], ...]:
    """[conversation][turn]: the first `turns` evaluation questions, which each conversation begins at another place of; its
    system turn is one of the prompt's wordings throughout."""
    pairs = held_out_pairs(attribute, "evaluate", questions)
    needed = max(size.turns, size.conversations)
    if needed > len(pairs):
        raise PsrError(
            "not as many evaluation questions as turns or conversations",
            where="--turns, --conversations",
            expected=f"at most {len(pairs)}",
            got=needed,
            do="Lower it, or reproduce the profile with more `steer.questions`.",
        )
    asked = [pairs[i * len(pairs) // needed] for i in range(needed)]
    firsts = [i * needed // size.conversations for i in range(size.conversations)]
    return tuple(
        tuple(replace(asked[(first + turn) % needed], instruction=wording(attribute, i)) for turn in range(size.turns))
        for i, first in enumerate(firsts)
    )
