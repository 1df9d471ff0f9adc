"""A table as text, and how a terminal and Markdown show it; templates/table.html shows the same on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import rich.table
from rich.text import Text

COLOURS = {
    "holds": "green",
    "met": "green",
    "fails": "red",
    "missed": "red",
    "undecided": "yellow",
    "better": "green",
    "worse": "red",
    "not measured": "dim",
}


@dataclass(frozen=True)
class Table:
    """A head and rows of cells; align: "l" or "r", a letter a column.

    The first line of a cell is what it says, further lines are details. above: heads over several columns, as (text, how
    many). strong: the rows that are headings. marks: a class of the page's style sheet for every row. below: a line about it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    above: tuple[tuple[str, int], ...] = ()
    strong: frozenset[int] = frozenset()
    marks: tuple[str, ...] = ()
    below: str = ""


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    align: str | None = None,
    above: Sequence[tuple[str, int]] = (),
    strong: Iterable[int] = (),
    marks: Iterable[str] = (),
    below: str = "",
) -> Table:
    """A table whose columns but the first stand at the right, unless `align` says otherwise."""
    align = align or "l" + "r" * (len(head) - 1)
    return Table(tuple(head), tuple(map(tuple, rows)), align, tuple(above), frozenset(strong), tuple(marks), below)


def terminal(table: Table) -> rich.table.Table:
    """For people at a terminal: verdicts in colour, details dim below."""
    shown = rich.table.Table(
        box=None, pad_edge=False, header_style="bold", caption=table.below or None, caption_justify="left"
    )
    for name, letter in zip(table.head, table.align, strict=True):
        shown.add_column(Text(name), justify="right" if letter == "r" else "left", no_wrap=letter == "r")
    for i, row in enumerate(table.rows):
        shown.add_row(*(_text(cell, i in table.strong) for cell in row))
    return shown


def _text(cell: str, strong: bool) -> Text:
    first, _, details = cell.partition("\n")
    text = Text(first, COLOURS.get(first.rpartition(": ")[2], "bold" if strong else ""))
    return text.append(f"\n{details}", "dim") if details else text


def markdown(table: Table) -> str:
    """For a README, where no cell can break out of its table; details stand below, after a <br>."""
    rule = ["---:" if letter == "r" else "---" for letter in table.align]
    rows = [
        [f"**{text}**" if i in table.strong and text else text for text in map(_one_line, row)]
        for i, row in enumerate(table.rows)
    ]
    lines = [f"| {' | '.join(line)} |" for line in [[_one_line(name) for name in table.head], rule, *rows]]
    return "\n".join([*lines, *(["", table.below] if table.below else [])])


def _one_line(cell: str) -> str:
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", "<br>")
