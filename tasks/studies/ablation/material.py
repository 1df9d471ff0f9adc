"""What the ablation works on: each attribute's triplets, from the finished profile or made here, and its two sets of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psr.answers.pairs import fit_pairs, held_out_pairs
from psr.answers.selection import means, select
from psr.errors import PsrError
from psr.judges.dimensions import asked_and_sense
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, Attribute, PromptPair, Triplet
from tasks.asking.answers import complete_once, judge_once
from tasks.asking.models import ModelPlace, open_model
from tasks.benchmarks.catalogue import load_attributes
from tasks.benchmarks.judges import judges_named
from tasks.engine.scratch import Scratch
from tasks.steps.complete import fit_asks
from tasks.tables.triplets import triplets_by_attribute

BENCHMARKS = ("persona", "ifeval")


@dataclass(frozen=True)
class Subject:
    """One attribute: what its modules are fitted on, which questions choose alpha, and which give the figures."""

    attribute: Attribute
    triplets: tuple[Triplet, ...]
    judge: Judge
    search: tuple[PromptPair, ...]
    evaluate: tuple[PromptPair, ...]

    @property
    def key(self) -> str:
        return self.attribute.key

    @property
    def benchmark(self) -> str:
        return self.attribute.benchmark


def wanted_attributes(told: Mapping[str, Any], names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes called `names` (NAME of persona, or BENCHMARK/NAME); without any, the profile's of BENCHMARKS.

    told: the profile's parameters. A benchmark that it does not have is looked for beside the first that it has.
    Raises PsrError: another benchmark, an unknown attribute, or none.
    """
    paths = {one["name"]: Path(one["path"]) for one in told["benchmarks"]}
    own = [
        f"{one['name']}/{name}" for one in told["benchmarks"] if one["name"] in BENCHMARKS for name in one["attributes"]
    ]
    keys = [name if "/" in name else f"persona/{name}" for name in names] or own
    found: list[Attribute] = []
    for key in dict.fromkeys(keys):
        benchmark, _, name = key.partition("/")
        if benchmark not in BENCHMARKS:
            raise PsrError(
                "the ablation is about traits and format instructions",
                where="--attribute",
                expected=" or ".join(f"{known}/NAME" for known in BENCHMARKS),
                got=repr(key),
            )
        path = paths.get(benchmark, next(iter(paths.values())).parent / benchmark)
        found += load_attributes(benchmark, path, [name])
    if not found:
        raise PsrError(
            "the profile has no trait and no format instruction",
            where="--attribute",
            expected="one or more attributes",
            got="none",
            do="Name them.",
        )
    return tuple(found)


def subjects(
    data: Path, told: Mapping[str, Any], attributes: Sequence[Attribute], model: ModelPlace, scratch: Scratch
) -> tuple[Subject, ...]:
    """Every attribute with its triplets. Raises PsrError where none are left after selection, or tables are damaged."""
    known = (
        triplets_by_attribute(data / "complete", data / "select")
        if (data / "select/triplets.parquet").is_file()
        else {}
    )
    judges = judges_named(told["judge"]["name"], attributes)
    found = []
    for attribute in attributes:
        judge = judges[attribute.benchmark]
        triplets = known.get(attribute.key) or made(attribute, told, model, judge, scratch.within("triplets"))
        pairs = {
            name: held_out_pairs(attribute, part, told[section]["questions"])  # type: ignore[arg-type]
            for name, part, section in (("search", "search", "search"), ("evaluate", "evaluate", "steer"))
        }
        found.append(Subject(attribute, triplets, judge, **pairs))
    return tuple(found)


def made(
    attribute: Attribute, told: Mapping[str, Any], model: ModelPlace, judge: Judge, scratch: Scratch
) -> tuple[Triplet, ...]:
    """The triplets that the profile's stages `complete` and `select` would have made of an attribute it does not have."""
    from psr.answers.sampling import Sampling

    asked, kept, sampling = (
        told["complete"],
        told["select"],
        Sampling(told["sampling"]["max_new_tokens"], told["sampling"]["temperature"]),
    )
    questions = min(asked["questions"] or len(attribute.questions), len(attribute.questions))
    instructions = min(asked["instructions"], len(attribute.instructions))
    pairs = {pair.id: pair for pair in fit_pairs(attribute, questions, instructions)}
    asks = [
        ask
        for ask in fit_asks(tuple(pairs.values()), instructions, asked["samples"], asked["seed"])
        if ask.method == INSTRUCTED
    ]
    label = f"triplets {attribute.key}"
    answers = complete_once(open_model(model), asks, sampling, scratch, batch_size=asked["batch_size"], label=label)
    judgements = judge_once(judge, answers, pairs, scratch, label=label)
    trait, coherence = (means(judgements, dimension) for dimension in asked_and_sense(attribute.key))
    good, bad = select(pairs, answers, trait, coherence, **kept)
    if not good:
        counts = ", ".join(f"{n} {reason}" for reason, n in Counter(one.reason for one in bad).most_common())
        raise PsrError(
            "no triplet is left to learn from",
            where=attribute.key,
            got=f"dropped {len(bad)}: {counts}",
            do="Ask more questions, or lower select.min_trait or select.min_coherence.",
        )
    return good
