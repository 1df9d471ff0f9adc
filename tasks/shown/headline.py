"""The tables as a terminal shows them: trait alignment at matched coherence, and the other benchmarks' own figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tasks.shown.report_benchmarks import Section

Row = dict[str, Any]


def headline_rows(root: Path, profile: str) -> list[Row]:
    """The rows of the profile's headline table; none before there are results."""
    path = root / "data" / profile / "results" / "headline.parquet"
    if not path.exists():
        return []
    from tasks.tables.parquet import read_table

    return read_table(path, "headline")


def headline_table(rows: list[Row]) -> Table:
    """Methods down, attributes across, then means: TA@Cp [95 % interval], and TA@C80 / TA@Cp in the mean."""
    attributes = list(dict.fromkeys(row["attribute"] for row in rows))
    methods = list(dict.fromkeys(row["name"] for row in rows))
    cells = {(row["name"], row["attribute"]): row for row in rows}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trait alignment at the prompt's coherence")
    for name in [*(a.partition("/")[2] or a for a in attributes), "mean", "mean at coherence 80"]:
        table.add_column(Text(name), justify="right")
    for method in methods:
        found = [cells.get((method, attribute)) for attribute in attributes]
        means = (_mean(found, "ta_cp"), _mean(found, "ta_c80"))
        table.add_row(Text(method), *map(_cell, found), *(_number(mean) for mean in means))
    return table


def benchmark_tables(root: Path, profile: str) -> list[Table]:
    """The other benchmarks' tables; none of what the profile does not measure."""
    from tasks.shown.report_benchmarks import BENCHMARKS, sections
    from tasks.tables.parquet import read_table

    paths = {name: root / "data" / profile / "results" / f"{name}.parquet" for name in BENCHMARKS}
    return [
        _section_table(section)
        for section in sections({name: read_table(path, name) if path.exists() else [] for name, path in paths.items()})
    ]


def _section_table(section: Section) -> Table:
    """Methods down, attributes across with 95 % intervals, then the means of every measure."""
    main, means = section.benchmark.main, section.benchmark.means
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{section.benchmark.title.lower()}: {main.name}")
    for name in [*section.attributes, *(f"mean {measure.name}" for measure in means)]:
        table.add_column(Text(name), justify="right")
    for line in section.lines:
        cells = [
            "–"
            if cell is None
            else f"{_number(cell[main.column], main.digits)} "
            f"({_number(cell[main.column + '_low'], main.digits)}–{_number(cell[main.column + '_high'], main.digits)})"
            for cell in line.cells
        ]
        table.add_row(
            Text(line.name), *cells, *(_number(value, m.digits) for value, m in zip(line.means, means, strict=True))
        )
    return table


def _cell(row: Row | None) -> str:
    if row is None or row["ta_cp"] is None:
        return "–"
    return f"{row['ta_cp']:.1f} ({_number(row['ta_cp_low'], 0)}–{_number(row['ta_cp_high'], 0)})"


def _mean(rows: list[Row | None], column: str) -> float | None:
    values = [row[column] for row in rows if row is not None and row[column] is not None]
    return sum(values) / len(values) if len(values) == len(rows) and values else None


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
