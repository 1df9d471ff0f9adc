"""The tables of format instructions (IFEval) and concepts (AxBench): methods down, attributes across, then means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column of a benchmark's table: its name there, what people call it, how many decimals it carries."""

    column: str
    name: str
    digits: int


@dataclass(frozen=True)
class Benchmark:
    """What is shown of a benchmark. `main` stands with its interval by attribute, `means` are over all attributes."""

    title: str
    told: str
    main: Measure
    means: tuple[Measure, ...]


@dataclass(frozen=True)
class Line:
    """A method: its row by attribute (None: not measured) and its means (None: not measured everywhere)."""

    method: str
    name: str
    cells: tuple[Row | None, ...]
    means: tuple[float | None, ...]


@dataclass(frozen=True)
class Section:
    """A benchmark's table as it is shown."""

    benchmark: Benchmark
    attributes: tuple[str, ...]
    lines: tuple[Line, ...]
    n: int
    n_unscored: int
    seeds: int


BENCHMARKS = {
    "ifeval": Benchmark(
        "Format instructions",
        "Share of answers that obey (strict accuracy, 0–100) with its 95 % interval, at α = 1; nothing is chosen.",
        Measure("strict", "strict accuracy", 1),
        (Measure("strict", "strict", 1), Measure("loose", "loose", 1), Measure("coherence", "coherence", 1)),
    ),
    "axbench": Benchmark(
        "Concepts",
        "Harmonic mean of the ratings for concept, instruction and fluency (0–2; 0 if any is 0) with its 95 % interval. "
        "Each module steers by the factor that is best on the search questions; the figures are of other questions.",
        Measure("overall", "harmonic mean", 2),
        (
            Measure("overall", "harmonic mean", 3),
            Measure("concept", "concept", 2),
            Measure("instruction", "instruction", 2),
            Measure("fluency", "fluency", 2),
        ),
    ),
}


def sections(tables: Mapping[str, Sequence[Row]]) -> list[Section]:
    """A section for every benchmark that was measured."""
    return [_section(benchmark, tables[name]) for name, benchmark in BENCHMARKS.items() if tables[name]]


def _section(benchmark: Benchmark, rows: Sequence[Row]) -> Section:
    attributes = tuple(dict.fromkeys(row["attribute"] for row in rows))
    names = {row["method"]: row["name"] for row in rows}
    cells = {(row["method"], row["attribute"]): row for row in rows}
    lines = []
    for slug in sorted(names, key=lambda slug: slug in ("prompt",)):
        found = tuple(cells.get((slug, attribute)) for attribute in attributes)
        lines.append(Line(slug, names[slug], found, tuple(_mean(found, measure.column) for measure in benchmark.means)))
    return Section(
        benchmark,
        tuple(attribute.partition("/")[2] for attribute in attributes),
        tuple(lines),
        min(row["n"] for row in rows),
        sum(row["n_unscored"] for row in rows),
        max(row["seeds"] for row in rows),
    )


def _mean(rows: Sequence[Row | None], column: str) -> float | None:
    values = [row[column] for row in rows if row is not None and row[column] is not None]
    return sum(values) / len(values) if values and len(values) == len(rows) else None
