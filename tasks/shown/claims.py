"""The claims as a table, the same at a terminal, in the README and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psr.evaluation.claims import CLAIMS
from tasks.shown.tables import Table, table

Row = dict[str, Any]
DIGITS = {"points": 1, "relative RMSE": 3}  # decimals that a unit can carry; else 2
HEAD = ("claim", "paper", "here", "95 % interval", "at Cp−2", "margin", "verdict", "seeds × attributes")


def claims_table(rows: Sequence[Row], *, details: bool = True) -> Table:
    """A line a claim, then one for each of its parts: the paper's difference, ours with its interval, the margin, the verdict.

    details: what is compared, on which attributes, and why this margin.
    """
    lines: list[list[str]] = []
    strong = []
    for number in sorted({row["claim"] for row in rows}):
        parts = [row for row in rows if row["claim"] == number]
        why = f"\nmargin {figure(parts[0], 'margin')} {parts[0]['unit']}: {parts[0]['why']}" if details else ""
        strong.append(len(lines))
        lines.append([f"{number}. {CLAIMS[number].says}{why}", "", "", "", "", "", parts[0]["claim_verdict"], ""])
        for row in parts:
            below = [row["compared"], row["note"]] if details else []
            which = f"\n{row['which']}" if details and row["which"] else ""
            lines.append([
                "\n".join([f"{row['part']} ({row['unit']})", *filter(None, below)]),
                figure(row, "published"), figure(row, "value"), _ends(row, ""), _beside(row), figure(row, "margin"),
                row["verdict"],
                f"{row['seeds']} × {row['attributes']}{which}",
            ])  # fmt: skip
    return table(HEAD, lines, align="lrrrrrlr", strong=strong)


def figure(row: Row, column: str) -> str:
    """A difference in its unit; – where there is none."""
    value = row[column]
    return "–" if value is None else f"{value:+.{DIGITS.get(row['unit'], 2)}f}"


def _ends(row: Row, of: str) -> str:
    return "–" if row[f"{of}low"] is None else f"{figure(row, f'{of}low')} to {figure(row, f'{of}high')}"


def _beside(row: Row) -> str:
    return "–" if row["cp2"] is None else f"{figure(row, 'cp2')} ({_ends(row, 'cp2_')})"


def questions(rows: Sequence[Row]) -> list[str]:
    """Below the table: how to ask for each figure."""
    return [f'{row["claim"]} {row["part"]}:\npython -m flows.sql "{row["sql"]}"' for row in rows if row["sql"]]
