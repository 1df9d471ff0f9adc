"""The tables of figures, methods down and attributes across, then means: what is shown of each benchmark.

Here as a terminal shows them; the report and the README have the same `lines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from tasks.shown.order import short

Row = Mapping[str, Any]


class Measure(NamedTuple):
    """A column of a table: its name there, what people call it, how many decimals it and its interval carry."""

    column: str
    name: str
    digits: int = 1
    interval_digits: int = 1


class Benchmark(NamedTuple):
    """What is shown of a benchmark. `main` stands with its interval by attribute, `means` are over all attributes."""

    title: str
    about: str
    main: Measure
    means: tuple[Measure, ...]


class Line(NamedTuple):
    """A method: its row by attribute (None: not measured) and its means (None: not measured everywhere)."""

    method: str
    name: str
    cells: list[Row | None]
    means: list[float | None]


HEADLINE = Measure("ta_cp", "trait alignment at the prompt's coherence", 1, 0)
HEADLINE_MEANS = (Measure("ta_cp", "mean"), Measure("ta_c80", "mean at coherence 80"))
BENCHMARKS = {
    "ifeval": Benchmark(
        "Format instructions",
        "Share of answers that obey (strict accuracy, 0–100) with its 95 % interval, at α = 1; nothing is chosen.",
        Measure("strict", "strict accuracy"),
        tuple(Measure(n, n) for n in ("strict", "loose", "coherence")),
    ),
    "axbench": Benchmark(
        "Concepts",
        "Harmonic mean of the ratings for concept, instruction and fluency (0–2; 0 if any is 0) with its 95 % interval. "
        "Each module steers by the factor that is best on the search questions; the figures are of other questions.",
        Measure("overall", "harmonic mean", 2, 2),
        (Measure("overall", "harmonic mean", 3), *(Measure(n, n, 2) for n in ("concept", "instruction", "fluency"))),
    ),
}


def attributes_of(rows: Iterable[Row]) -> list[str]:
    """Attribute keys, in the order of the rows."""
    return list(dict.fromkeys(row["attribute"] for row in rows))


def lines(rows: Sequence[Row], attributes: Sequence[str], means: Sequence[Measure]) -> list[Line]:
    """A line a method, in the order of the rows."""
    names = {row["method"]: row["name"] for row in rows}
    found = {(row["method"], row["attribute"]): row for row in rows}
    cells = {slug: [found.get((slug, attribute)) for attribute in attributes] for slug in names}
    return [
        Line(slug, name, cells[slug], [_mean(cells[slug], measure.column) for measure in means])
        for slug, name in names.items()
    ]


def prompt_last(rows: Iterable[Row]) -> list[Row]:
    """Rows in their order, those of the prompt at the end."""
    return sorted(rows, key=lambda row: row["method"] == "prompt")


def headline_rows(root: Path, profile: str) -> list[dict[str, Any]]:
    """The rows of the profile's headline table; none before there are results."""
    return _rows(root / "data" / profile / "results", "headline")


def headline_table(rows: Sequence[Row]) -> Table:
    """TA@Cp [95 % interval], and the means of TA@Cp and TA@C80."""
    return _table(cells(rows, HEADLINE.name, HEADLINE, HEADLINE_MEANS))


def benchmark_tables(root: Path, profile: str) -> list[Table]:
    """The other benchmarks' tables; none of what the profile does not measure."""
    tables = []
    for name, benchmark in BENCHMARKS.items():
        if rows := _rows(root / "data" / profile / "results", name):
            heading = f"{benchmark.title.lower()}: {benchmark.main.name}"
            means = [measure._replace(name=f"mean {measure.name}") for measure in benchmark.means]
            tables.append(_table(cells(prompt_last(rows), heading, benchmark.main, means)))
    return tables


def cells(rows: Sequence[Row], heading: str, main: Measure, means: Sequence[Measure]) -> list[list[str]]:
    """The table as text: its head, then a line a method."""
    attributes = attributes_of(rows)
    table = [[heading, *map(short, attributes), *(measure.name for measure in means)]]
    for line in lines(rows, attributes, means):
        last = [_number(mean, measure.digits) for mean, measure in zip(line.means, means, strict=True)]
        table.append([line.name, *(figure(row, main) for row in line.cells), *last])
    return table


def _table(text: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(text[0]):
        table.add_column(Text(name), justify="right" if i else "left")
    for row in text[1:]:
        table.add_row(*map(Text, row))
    return table


def _rows(results: Path, name: str) -> list[dict[str, Any]]:
    from tasks.tables.parquet import read_table

    path = results / f"{name}.parquet"
    return read_table(path, name) if path.exists() else []


def figure(row: Row | None, measure: Measure) -> str:
    """A figure with its interval: 93.0 (90–96)."""
    if row is None or row[measure.column] is None:
        return "–"
    low, high = (_number(row[f"{measure.column}_{end}"], measure.interval_digits) for end in ("low", "high"))
    return f"{_number(row[measure.column], measure.digits)} ({low}–{high})"


def _mean(cells: Sequence[Row | None], column: str) -> float | None:
    values = [cell[column] for cell in cells if cell is not None and cell[column] is not None]
    return sum(values) / len(values) if values and len(values) == len(cells) else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
