"""Two experiments compared, paired: one attribute, method, seed and question at a time, the difference of a figure.

A difference is the second experiment's figure less the first's, both on the same draws of the questions that both have
asked, over seeds × questions as in psr.evaluation.claims. Each experiment keeps its own choice of α: the draws repeat it.
Compared is only what the same model answered and the same judge rated on the same scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from psr.errors import PsrError
from psr.evaluation.bootstrap import Figure, Interval
from psr.evaluation.claims import Difference, difference, mean_difference
from psr.types import short_hash
from tasks.figures.entries import entries
from tasks.figures.sides import Side, sides
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import read_table

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark

Verdict = Literal["better", "worse", "undecided"]
Key = tuple[str, int]  # attribute, seed
MEAN = "mean"


@dataclass(frozen=True)
class Experiment:
    """A finished profile. data: its folder; benchmarks: by their own name; draws: `resamples` and `seed` of its results."""

    name: str
    data: Path
    benchmarks: Mapping[str, Benchmark]
    draws: Mapping[str, int]

    @cached_property
    def searched(self) -> dict[Key, Side]:
        return sides(self.data / "search", self.data / "search")

    @cached_property
    def evaluated(self) -> dict[Key, Side]:
        return sides(self.data / "steer", self.data / "judge")

    @cached_property
    def rubrics(self) -> dict[str, str]:
        """completion -> who rated it, by which rubric."""
        rows = read_table(self.data / "judge/judgements.parquet", "judgements")
        return {row["completion"]: f"{row['judge']} {row['rubric']}" for row in rows}

    @cached_property
    def marks(self) -> dict[str, str]:
        """attribute -> a hash of the marks that a judge by likelihood rates by."""
        path = self.data / "select/calibrations.parquet"
        rows = read_table(path, "calibrations") if path.exists() else []
        return {row["attribute"]: f", calibration {short_hash(row['marks'])[:6]}" for row in rows}

    def judge(self, key: Key) -> str:
        """Who rated the answers of this attribute and seed, and on which scale."""
        own = {self.rubrics.get(one.id, "nobody") for one in self.evaluated[key].completions}
        return " and ".join(sorted(own)) + self.marks.get(key[0], "")


@dataclass(frozen=True)
class Compared:
    """One method on one attribute, or the mean over attributes. first, second: the figures, means over seeds."""

    benchmark: str
    attribute: str
    method: str
    figure: str
    first: float
    second: float
    difference: Interval
    seeds: int
    questions: int

    @property
    def verdict(self) -> Verdict:
        """Of the second experiment: better or worse where the interval is on one side of 0. A larger figure is better."""
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "undecided"


@dataclass
class _Group:
    """What pairs of one attribute and method, a seed each."""

    name: str
    pairs: list[tuple[Figure, Figure]] = field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        return [difference(second, first) for first, second in self.pairs]

    def mean(self, which: int) -> float:
        return float(np.mean([pair[which].value for pair in self.pairs]))


def compared(first: Experiment, second: Experiment, figure: str = "") -> list[Compared]:
    """A row a method on an attribute that both have, then one over a benchmark's attributes. figure: instead of each
    benchmark's main one. Raises PsrError where nothing pairs, and says what differs."""
    groups: dict[tuple[str, str], _Group] = {}
    reasons: list[str] = []
    for key in sorted(set(first.evaluated) & set(second.evaluated)):
        if reason := _differs(first, second, key):
            reasons.append(reason)
            continue
        benchmark = first.benchmarks[key[0].partition("/")[0]]
        name = figure or benchmark.main.figure
        ours, theirs = (
            _figures(one, other, key, name, first.draws) for one, other in ((first, second), (second, first))
        )
        for method in (method for method in ours if method in theirs):
            group = groups.setdefault((key[0], method), _Group(ours[method][0]))
            group.pairs.append((ours[method][1], theirs[method][1]))
        if not set(ours) & set(theirs):
            known = ", ".join(benchmark.strength.figures(benchmark))
            reasons.append(f"{key[0]}: no method has {name} in both (its figures are {known})")
    if not groups:
        raise PsrError(
            "nothing in these experiments pairs",
            where=f"{first.name}, {second.name}",
            expected="an attribute, a method, a seed and questions in common, one model and one judge",
            got="; ".join(dict.fromkeys(reasons)) or _nothing_common(first, second),
        )
    return [*_rows(groups, first, figure)]


def _differs(first: Experiment, second: Experiment, key: Key) -> str:
    """Why the answers of an attribute and seed cannot be compared; empty where they can."""
    models = [one.evaluated[key].completions[0].model[:8] for one in (first, second)]
    judges = [one.judge(key) for one in (first, second)]
    for what, (ours, theirs) in (("model", models), ("judge", judges)):
        if ours != theirs:
            return f"{key[0]}: another {what} ({ours}, {theirs})"
    if key[0].partition("/")[0] not in {*first.benchmarks} & {*second.benchmarks}:
        return f"{key[0]}: another benchmark"
    return "" if _common(first, second, key) else f"{key[0]}: other questions"


def _nothing_common(first: Experiment, second: Experiment) -> str:
    ours, theirs = ({attribute for attribute, _ in one.evaluated} for one in (first, second))
    if not ours & theirs:
        return f"other attributes ({', '.join(sorted(ours))}; {', '.join(sorted(theirs))})"
    seeds = [", ".join(map(str, sorted({seed for _, seed in one.evaluated}))) for one in (first, second)]
    return f"other seeds ({'; '.join(seeds)})"


def _common(first: Experiment, second: Experiment, key: Key) -> set[tuple[str, int]]:
    ours, theirs = (_questions(one.evaluated[key]) for one in (first, second))
    return set(ours) & set(theirs)


def _questions(side: Side) -> dict[tuple[str, int], str]:
    """(question, number among pairs with that question) -> id of its pair, in an order that files do not decide."""
    seen: dict[str, int] = {}
    named: dict[tuple[str, int], str] = {}
    for pair in sorted(side.pairs, key=lambda pair: (pair.question, pair.instruction)):
        seen[pair.question] = seen.get(pair.question, -1) + 1
        named[pair.question, seen[pair.question]] = pair.id
    return named


def _figures(
    one: Experiment, other: Experiment, key: Key, figure: str, draws: Mapping[str, int]
) -> dict[str, tuple[str, Figure]]:
    """method -> its name and figure on the questions that both have."""
    attribute, run = key
    common = _common(one, other, key)
    order = [identifier for question, identifier in _questions(one.evaluated[key]).items() if question in common]
    pairs = {pair.id: pair for pair in one.evaluated[key].pairs}
    answers = [answer for answer in one.evaluated[key].completions if answer.pair in set(order)]
    side = replace(one.evaluated[key], pairs=[pairs[identifier] for identifier in order], completions=answers)
    benchmark, modules = one.benchmarks[attribute.partition("/")[0]], rows_of_seed(one.data / "distill", attribute, run)
    return {
        entry.facts["method"]: (entry.facts["name"], found)
        for entry in entries(benchmark, attribute, run, modules, one.searched[key], side, draws)
        if (found := entry.figures.get(figure)) is not None and not np.isnan(found.value)
    }


def _rows(groups: Mapping[tuple[str, str], _Group], first: Experiment, figure: str) -> Iterator[Compared]:
    """Every group as a row; after a benchmark's, the mean over attributes of the methods that have all of them."""
    for benchmark in dict.fromkeys(attribute.partition("/")[0] for attribute, _ in groups):
        own = {key: group for key, group in groups.items() if key[0].partition("/")[0] == benchmark}
        attributes = list(dict.fromkeys(attribute for attribute, _ in own))
        name = figure or first.benchmarks[benchmark].main.figure
        for (attribute, _), group in own.items():
            yield _row(benchmark, attribute, name, {attribute: group})
        for method in dict.fromkeys(method for _, method in own):
            over = {attribute: own[attribute, method] for attribute in attributes if (attribute, method) in own}
            if len(over) == len(attributes) > 1:
                yield _row(benchmark, MEAN, name, over)


def _row(benchmark: str, attribute: str, figure: str, groups: Mapping[str, _Group]) -> Compared:
    """The mean over the groups, one an attribute."""
    first, second = (float(np.mean([group.mean(which) for group in groups.values()])) for which in (0, 1))
    interval = mean_difference({name: group.differences for name, group in groups.items()})
    counts = [(len(group.pairs), group.pairs[0][0].questions) for group in groups.values()]
    seeds, questions = min(seeds for seeds, _ in counts), sum(questions for _, questions in counts)
    name = next(iter(groups.values())).name
    return Compared(benchmark, attribute, name, figure, first, second, interval, seeds, questions)
