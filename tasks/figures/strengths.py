"""How strongly a module steers when it is judged, and what its figures are then: three ways, each as a paper has it.

    MATCHED        α where the module is as coherent as the prompt, or nearly, and where its coherence is 80 (persona vectors)
    BEST_FACTOR    the factor with the best harmonic mean of all ratings (AxBench)
    AT_ONE         α = 1, nothing is chosen (IFEval)

What is chosen is chosen on the search questions; figures are of the evaluation questions, and their intervals repeat the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from psr.evaluation.alpha_search import Point, candidates, search
from psr.evaluation.bootstrap import Figure, matched, plain_mean
from psr.evaluation.ratings import at_best_strength, strengths
from psr.types import INSTRUCTED
from tasks.figures.scores import HARMONIC
from tasks.figures.sides import Side

Rows = list[dict[str, Any]]
Figures = dict[str, Figure | None]
POINTS_OF: dict[str, Point] = {"ta_cp": "Cp", "ta_cp2": "Cp2", "ta_c80": "C80"}  # the figures of MATCHED


@dataclass(frozen=True)
class Measure:
    """A figure that is shown: its name in the tables, what people call it, how many decimals it carries.

    mean: the head of the column of its means over attributes. of: the dimension that it is the mean of, where it is not
    called like it.
    """

    figure: str
    label: str
    mean: str = ""
    digits: int = 1
    interval_digits: int = 1
    mean_digits: int = 1
    of: str = ""

    @property
    def dimension(self) -> str:
        return self.of or self.figure


class Judged(Protocol):
    """What of a benchmark decides its figures (tasks/benchmarks/contract.py)."""

    @property
    def asked(self) -> str: ...
    @property
    def sense(self) -> str: ...
    @property
    def dimensions(self) -> tuple[str, ...]: ...
    @property
    def optional(self) -> tuple[str, ...]: ...
    @property
    def measures(self) -> tuple[Measure, ...]: ...


@dataclass(frozen=True)
class Grid:
    """Which strengths are tried. resamples, seed: of the questions, to see which others might have been chosen."""

    alphas: Sequence[float]
    alpha_max: float
    refine: Sequence[int]
    factors: Sequence[float] | None
    resamples: int
    seed: int


class Tried(Protocol):
    """One module on the search questions, which are asked as they are needed."""

    @property
    def module(self) -> str:
        """Its id."""

    def side(self, alphas: Sequence[float]) -> Side:
        """Its answers at these strengths; at 0 the plain ones."""

    def prompted(self) -> Side:
        """The plain and the instructed answers."""


class Subject(NamedTuple):
    """Whose figures are wanted: the label of its completions; chosen: whether a module whose strength was searched.

    alpha: of a module on top of the prompt 1, of plain and prompt None.
    """

    label: str
    chosen: bool
    alpha: float | None


class Strength(Protocol):
    """A way. asks: whether modules answer the search questions; unsteered: whether the plain model and the prompt do too,
    and a curve along α is kept. taken: how many strengths a module is evaluated at, about."""

    @property
    def name(self) -> str: ...
    @property
    def asks(self) -> bool: ...
    @property
    def unsteered(self) -> bool: ...
    @property
    def taken(self) -> int: ...

    def figures(self, benchmark: Judged) -> Sequence[str]:
        """The figures that it gives."""

    def needs(self) -> Sequence[str]:
        """The parameters of the section `search` that may be left out and that it needs."""

    def tried(self, grid: Mapping[str, Any]) -> int:
        """How many strengths are tried at most, given the section `search` of the parameters."""

    def choose(self, benchmark: Judged, tried: Tried, grid: Grid) -> Rows:
        """Rows of `candidates`: every strength that the search or a resample of its questions chooses."""

    def measure(
        self, benchmark: Judged, subject: Subject, search: Side, evaluation: Side, draws: Mapping[str, int]
    ) -> Figures:
        """The figures of one subject in one repetition, None where one has none. draws: resamples and seed."""


@dataclass(frozen=True)
class Matched:
    """Trait alignment where a module is as coherent as the prompt (ta_cp: by a standard error, ta_cp2: by 2 points), and where
    its coherence is 80 (ta_c80). What is optional has two figures: at the strength of ta_cp, and at that of ta_c80 (NAME_c80)."""

    name: str = "matched"
    asks: bool = True
    unsteered: bool = True
    taken: int = 3

    def figures(self, benchmark: Judged) -> Sequence[str]:
        return *POINTS_OF, *benchmark.optional, *(f"{name}_c80" for name in benchmark.optional)

    def needs(self) -> Sequence[str]:
        return ()

    def tried(self, grid: Mapping[str, Any]) -> int:
        return len(grid["alphas"]) + 2 * sum(grid["refine"])  # alpha 0 is plain; alpha_max stands in its place

    def choose(self, benchmark: Judged, tried: Tried, grid: Grid) -> Rows:
        dimensions = benchmark.asked, benchmark.sense
        prompt = tried.prompted().mean(INSTRUCTED, benchmark.sense)
        scores = search(
            lambda alphas: tried.side(alphas).scores(tried.module, dimensions), prompt,
            coarse=grid.alphas, alpha_max=grid.alpha_max, refine=grid.refine,
        )  # fmt: skip
        return [vars(row) for row in candidates(scores, prompt, resamples=grid.resamples, seed=grid.seed)]

    def measure(
        self, benchmark: Judged, subject: Subject, search: Side, evaluation: Side, draws: Mapping[str, int]
    ) -> Figures:
        label, asked, sense = subject.label, benchmark.asked, benchmark.sense
        optional = [name for name in benchmark.optional if evaluation.rates(name)]
        if not subject.chosen:
            coherence = evaluation.mean(label, sense)

            def mean(dimension: str) -> Figure:
                figure = plain_mean(evaluation.mean(label, dimension), coherence, **draws)
                return replace(figure, alpha=subject.alpha)

            own = mean(asked)
            at_80 = dict.fromkeys(["ta_c80", *(f"{name}_c80" for name in optional)])
            return {"ta_cp": own, "ta_cp2": own, **{name: mean(name) for name in optional}, **at_80}
        prompt, searched = search.mean(INSTRUCTED, sense), search.scores(label, (asked, sense))

        def at(point: Point, dimension: str) -> Figure:
            evaluated = evaluation.scores(label, (dimension, sense))
            return matched(searched, prompt, evaluated, point, **draws)

        figures = {name: at(point, asked) for name, point in POINTS_OF.items()}
        figures |= {name: at("Cp", name) for name in optional}
        return {**figures, **{f"{name}_c80": at("C80", name) for name in optional}}


@dataclass(frozen=True)
class BestFactor:
    """The harmonic mean of all dimensions, 0 to 2 (overall), at the best factor, and each dimension there.

    What is optional is no part of the harmonic mean.
    """

    name: str = "best factor"
    asks: bool = True
    unsteered: bool = False
    taken: int = 3

    def figures(self, benchmark: Judged) -> Sequence[str]:
        return "overall", *benchmark.dimensions, *benchmark.optional

    def needs(self) -> Sequence[str]:
        return ("factors",)

    def tried(self, grid: Mapping[str, Any]) -> int:
        return len(grid["factors"] or ())

    def choose(self, benchmark: Judged, tried: Tried, grid: Grid) -> Rows:
        ratings = tried.side(grid.factors or ()).rated(tried.module, benchmark.dimensions)
        scores = ratings.scores(tried.module, (HARMONIC, benchmark.sense))
        return [{"point": "HM", **row._asdict()} for row in strengths(scores, resamples=grid.resamples, seed=grid.seed)]

    def measure(
        self, benchmark: Judged, subject: Subject, search: Side, evaluation: Side, draws: Mapping[str, int]
    ) -> Figures:
        label, shown = subject.label, (HARMONIC, benchmark.sense)
        evaluated = evaluation.rated(label, benchmark.dimensions)
        if subject.chosen:
            searched = search.rated(label, benchmark.dimensions)
            figure = at_best_strength(searched.scores(label, shown), evaluated.scores(label, shown), **draws)
        else:
            harmonic, sense = (evaluated.mean(label, name) for name in shown)
            figure = replace(plain_mean(harmonic, sense, **draws), alpha=subject.alpha)
        parts: Figures = {"overall": figure}
        rated = [(evaluated, name) for name in benchmark.dimensions]
        rated += [(evaluation, name) for name in benchmark.optional if evaluation.rates(name)]
        for side, name in rated:
            values = side.mean(label, name, figure.alpha)
            parts[name] = replace(plain_mean(values, values, **draws), alpha=figure.alpha)
        return parts


@dataclass(frozen=True)
class AtOne:
    """The mean of every measure's dimension, 0 to 100, at α = 1."""

    name: str = "one"
    asks: bool = False
    unsteered: bool = False
    taken: int = 1

    def figures(self, benchmark: Judged) -> Sequence[str]:
        rated = *benchmark.dimensions, *benchmark.optional
        return tuple(measure.figure for measure in benchmark.measures if measure.dimension in rated)

    def needs(self) -> Sequence[str]:
        return ()

    def tried(self, grid: Mapping[str, Any]) -> int:
        return 0

    def choose(self, benchmark: Judged, tried: Tried, grid: Grid) -> Rows:
        return [{"point": "one", "alpha": 1.0, "share": 1.0, "chosen": True}]

    def measure(
        self, benchmark: Judged, subject: Subject, search: Side, evaluation: Side, draws: Mapping[str, int]
    ) -> Figures:
        coherence = evaluation.mean(subject.label, benchmark.sense)
        alpha = 1.0 if subject.chosen else subject.alpha
        means = {
            measure.figure: plain_mean(evaluation.mean(subject.label, measure.dimension), coherence, **draws)
            for measure in benchmark.measures
            if measure.dimension not in benchmark.optional or evaluation.rates(measure.dimension)
        }
        return {name: replace(figure, alpha=alpha) for name, figure in means.items()}


MATCHED, BEST_FACTOR, AT_ONE = Matched(), BestFactor(), AtOne()
