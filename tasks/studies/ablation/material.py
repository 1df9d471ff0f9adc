"""The input of the ablation: each attribute's triplets, stored or newly made, and its search and evaluation questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psr.answers.pairs import held_out_pairs
from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.types import Attribute, PromptPair, Triplet
from tasks.asking.answers import Answerer
from tasks.asking.calibration import ready
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.catalogue import benchmark_named, load_attributes
from tasks.benchmarks.judges import judges_named
from tasks.engine.cells import Cells, copy
from tasks.steps.complete import complete_attribute
from tasks.steps.distill import Material
from tasks.steps.judge import judge_attribute
from tasks.steps.select import select_triplets
from tasks.studies.ablation.unrelated import Unrelated, unrelated_questions
from tasks.tables.triplets import triplets_by_attribute

BENCHMARKS = ("persona", "ifeval")


@dataclass(frozen=True)
class Subject:
    """One attribute. material: for fitting; search: questions that choose alpha; evaluate: questions for the figures; unrelated:
    questions for negatives and for drift."""

    attribute: Attribute
    material: Material
    judge: Judge
    search: tuple[PromptPair, ...]
    evaluate: tuple[PromptPair, ...]
    unrelated: Unrelated

    @property
    def key(self) -> str:
        return self.attribute.key

    @property
    def benchmark(self) -> str:
        return self.attribute.benchmark

    def pairs(self, section: str) -> tuple[PromptPair, ...]:
        """The questions of the parameters' section "search" or "steer"."""
        return self.search if section == "search" else self.evaluate


def wanted_attributes(settings: Mapping[str, Any], names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes called `names` (NAME of persona, or BENCHMARK/NAME); without any, the profile's of BENCHMARKS.

    settings: the profile's parameters. The files of a benchmark that it lacks are expected beside those of its first one.
    Raises PsrError: another benchmark, an unknown attribute, or none.
    """
    paths = {one["name"]: Path(one["path"]) for one in settings["benchmarks"]}
    named = [one for one in settings["benchmarks"] if one["name"] in BENCHMARKS]
    default_keys = [f"{one['name']}/{name}" for one in named for name in one["attributes"]]
    keys = [name if "/" in name else f"persona/{name}" for name in names] or default_keys
    attributes: list[Attribute] = []
    for key in dict.fromkeys(keys):
        benchmark, _, name = key.partition("/")
        if benchmark not in BENCHMARKS:
            raise PsrError(
                "the ablation is about traits and format instructions",
                where="--attribute",
                expected=" or ".join(f"{choice}/NAME" for choice in BENCHMARKS),
                got=repr(key),
            )
        path = paths.get(benchmark, next(iter(paths.values())).parent / benchmark)
        attributes += load_attributes(benchmark, path, [name])
    if not attributes:
        raise PsrError(
            "the profile has no trait and no format instruction",
            where="--attribute",
            expected="one or more attributes",
            got="none",
            do="Name them.",
        )
    return tuple(attributes)


def subjects(
    data: Path, settings: Mapping[str, Any], attributes: Sequence[Attribute], model: ModelSettings, cells: Cells
) -> tuple[Subject, ...]:
    """Every attribute with its triplets. Raises PsrError where none are left after selection, or tables are damaged."""
    selected = (data / "select/triplets.parquet").is_file()
    selected_triplets = triplets_by_attribute(data / "complete", data / "select") if selected else {}
    judges = ready(judges_named(attributes, **settings["judge"]), data / "select", model)
    answerer = Answerer(model, cells, **settings["sampling"], batch_size=settings["complete"]["batch_size"])
    rows = []
    for attribute in attributes:
        judge = judges[attribute.benchmark]
        triplets = selected_triplets.get(attribute.key) or make_triplets(attribute, settings, judge, answerer)
        rows.append(
            Subject(
                attribute,
                Material(attribute.key, triplets, {}, open_model(model)),
                judge,
                held_out_pairs(attribute, "search", settings["search"]["questions"]),
                held_out_pairs(attribute, "evaluate", settings["steer"]["questions"]),
                Unrelated(attribute, unrelated_questions(attribute, {t.pair.question for t in triplets}), answerer),
            )
        )
    return tuple(rows)


def make_triplets(
    attribute: Attribute, settings: Mapping[str, Any], judge: Judge, answerer: Answerer
) -> tuple[Triplet, ...]:
    """Make the triplets of an attribute that the profile lacks, as its steps `complete` and `select` would."""
    complete, cells = settings["complete"], answerer.cells
    questions = min(complete["questions"] or len(attribute.questions), len(attribute.questions))
    instructions = min(complete["instructions"], len(attribute.instructions))
    completed = complete_attribute(attribute, answerer, questions, instructions, complete["samples"], complete["seed"])
    judged = judge_attribute(attribute.key, judge, completed, cells, f"select {attribute.key}")

    def write(folder: Path) -> None:
        copy(judged / "judgements.parquet", folder / "judgements.parquet")
        benchmarks = {attribute.benchmark: benchmark_named(attribute.benchmark)}
        select_triplets(completed, folder, benchmarks, **settings["select"])

    selected = cells.keep("select", (completed.name, judged.name, settings["select"]), write)
    return triplets_by_attribute(completed, selected)[attribute.key]
