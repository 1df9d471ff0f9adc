"""What a benchmark is: one object that says how its files are read, what its answers are judged on, and what is shown of it.

Register one of ours in tasks/benchmarks/catalogue.py; name one of your own by its dotted path, `my_lab.songs:SONGS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from psr.errors import PsrError
from psr.types import Attribute
from tasks.benchmarks.questions import Loaded, Sides, distinct, divide
from tasks.benchmarks.reading import Read
from tasks.figures.strengths import AT_ONE, BEST_FACTOR, MATCHED, Measure, Strength

__all__ = [
    "AT_ONE", "BEST_FACTOR", "MATCHED", "Attribute", "Benchmark", "Load", "Loaded", "Measure", "Published", "Read", "Sides",
    "Strength", "distinct", "divide",
]  # fmt: skip

PACKAGE = {"regulariser": 0.0, "normalise": False}  # the names of a fit package, and values that change nothing


class Load(Protocol):
    """Reads a folder's attributes, those called `names` or all of them. Raises PsrError for an unknown name.

    An attribute's `benchmark` is the object's own name, so that its key is `NAME/attribute`.
    """

    def __call__(self, folder: Path, names: Sequence[str] | None, read: Read) -> Sequence[Loaded]: ...


@dataclass(frozen=True)
class Published:
    """A table of other people's figures: what was measured on what, its columns, and (method or name) -> a figure a column.

    A method's slug puts a row beside what was measured here; any other name makes a row of its own.
    """

    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    digits: int = 1


@dataclass(frozen=True)
class Benchmark:
    """A benchmark. Raises PsrError when a field makes no sense.

    name: the first half of its attributes' keys. load: reads them (`Load`). asked, sense: what the judge rates, whether an
    answer shows what was asked for and whether it makes sense; `more`: further dimensions; `optional`: those that not every
    judge rates, and that are figures where one does, at the strength that is chosen. strength: how strongly a module
    steers (tasks/figures/strengths.py). measures: what is shown, the main one first. package: of the fit settings, the
    regulariser of dead gates and the normalised MSE. published: other people's figures, which a page prints beside.

    Example:
        SONGS = Benchmark("songs", load_songs, "singing", "coherence", MATCHED, (Measure("ta_cp", "singing"),), "Songs")
    """

    name: str
    load: Load
    asked: str
    sense: str
    strength: Strength
    measures: tuple[Measure, ...]
    title: str
    about: str = ""
    more: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    package: Mapping[str, float | bool] = field(default_factory=lambda: dict(PACKAGE))
    published: Published | None = None

    def __post_init__(self) -> None:
        _require(
            re.fullmatch(r"[\w.-]+", self.name), self.name, "a name of letters, digits, dots and dashes", self.name
        )
        _require(self.measures, self.name, "at least one measure", "none")
        rated = *self.dimensions, *self.optional
        _require(len(set(rated)) == len(rated), self.name, "distinct dimensions", rated)
        unknown = sorted(set(self.package) ^ set(PACKAGE))
        _require(not unknown, f"{self.name}.package", " and ".join(PACKAGE), ", ".join(self.package))
        figures = self.strength.figures(self)
        for measure in self.measures:
            _require(
                measure.figure in figures, f"{self.name}.measures", f"figures of {', '.join(figures)}", measure.figure
            )

    @property
    def dimensions(self) -> tuple[str, ...]:
        """All that every judge rates: what was asked for, the further ones, whether the answer makes sense."""
        return self.asked, *self.more, self.sense

    @property
    def main(self) -> Measure:
        """The measure that stands by attribute."""
        return self.measures[0]


def _require(good: object, where: str, expected: str, got: object) -> None:
    if not good:
        raise PsrError("a benchmark makes no sense", where=where, expected=expected, got=str(got))
