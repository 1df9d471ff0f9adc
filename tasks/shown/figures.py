"""The tables of figures, a benchmark each: methods down, attributes across, then means. SQL writes every cell.

`ask` puts a question to the views of one profile (tasks.shown.index.profile_index).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.fitting.methods import BY_SLUG
from tasks.shown.order import short
from tasks.shown.tables import Table, table

if TYPE_CHECKING:
    from tasks.shown.query import Question

FAVOURED = "† fitted to likelihoods, which the judge of these answers measures too: only figures by words or checkers compare fairly."
TABLES = ("figures", "measures", "published", "benchmarks")  # what the tables are made from
CELLS = """SELECT block, heading, slug, method, text, detail FROM cells WHERE benchmark = ?
    ORDER BY block, column_position, position"""
SECTIONS = """SELECT m.benchmark, m.figure, m.title, m.about, m.label, min(f.n) AS n, sum(f.n_unscored) AS unscored,
        max(f.seeds) AS seeds, count(DISTINCT f.attribute) AS attributes, min(f.model) AS model
    FROM measures m JOIN figures f USING (profile, benchmark, figure) WHERE m.position = 0
    GROUP BY m.section, m.benchmark, m.figure, m.title, m.about, m.label ORDER BY m.section"""


@dataclass(frozen=True)
class Section:
    """What is shown of a benchmark. figure: the main one; note: how many questions it is of."""

    benchmark: str
    figure: str
    title: str
    about: str
    table: Table
    note: str
    attributes: int
    model: str


def sections(ask: Question, marks: Mapping[str, str] | None = None) -> list[Section]:
    """Every benchmark that was measured. marks: for a page, the class of every method: then details and the paper's own
    figures stand there too."""
    return [_section(ask, row, marks) for row in ask(SECTIONS).dicts()]


def figure_tables(data: Path) -> list[Table]:
    """The same of a profile's folder, for a terminal; none before there are results."""
    from tasks.shown.index import profile_index  # DuckDB, which a run that failed does not need

    with profile_index(data, TABLES) as ask:
        return [section.table for section in sections(ask)]


def _section(ask: Question, row: dict[str, Any], marks: Mapping[str, str] | None) -> Section:
    cells = [
        cell for cell in ask(CELLS, [row["benchmark"]]).dicts() if marks is not None or cell["block"] != "published"
    ]
    columns = list(dict.fromkeys((cell["block"], cell["heading"]) for cell in cells))
    at = {(cell["slug"], cell["block"], cell["heading"]): _words(cell, marks is not None) for cell in cells}
    methods = {cell["slug"]: cell["method"] for cell in cells if cell["block"] == "figure"}
    methods |= {cell["slug"]: cell["method"] for cell in cells if not _ours(cell["slug"])}
    counts = {block: sum(one == block for one, _ in columns) for block, _ in columns}
    source = next((cell["detail"] for cell in cells if cell["block"] == "published"), "")
    heads = {"figure": row["label"], "mean": "mean", "published": f"paper: {source}"}
    per = "questions" if row["seeds"] == 1 else "questions × seeds"
    return Section(
        row["benchmark"],
        row["figure"],
        row["title"],
        row["about"],
        table(
            ["method" if marks is not None else row["label"], *(short(heading) for _, heading in columns)],
            [[name, *(at.get((slug, *column), "–") for column in columns)] for slug, name in methods.items()],
            above=[] if marks is None else [("", 1), *((heads[block], count) for block, count in counts.items())],
            marks=() if marks is None else [marks.get(slug, "") for slug in methods],
            below=FAVOURED if any(name.endswith(FAVOURED[0]) for name in methods.values()) else "",
        ),
        f"n = {row['n']} {per} a figure; {row['unscored']} answers without a score, left out of the means.",
        row["attributes"],
        row["model"],
    )


def _words(cell: dict[str, Any], details: bool) -> str:
    shown = details and cell["detail"] and cell["block"] == "figure"
    return f"{cell['text']}\n{cell['detail']}" if shown else str(cell["text"])


def _ours(slug: str) -> bool:
    """Whether a method of somebody else's table is one that could be measured here."""
    return slug in ("plain", "prompt") or slug.removesuffix("+prompt") in BY_SLUG
