"""The README's tables of claims and of speed, in Markdown, out of what flows.claims and flows.bench stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psr.evaluation.claims import CLAIMS
from tasks.studies.bench.table import number
from tasks.studies.claims.table import ends, figure

Row = dict[str, Any]
NONE = "<!-- not measured yet -->"


def claims(rows: Sequence[Row]) -> str:
    """A line a claim, then one for each of its parts: the paper's difference, ours with its interval, the verdict."""
    table = [["claim", "paper", "here", "95 % interval", "margin", "verdict", "seeds × attributes"]]
    for claim in sorted({row["claim"] for row in rows}):
        parts = [row for row in rows if row["claim"] == claim]
        table.append([f"**{claim}. {CLAIMS[claim].says}**", "", "", "", "", f"**{parts[0]['claim_verdict']}**", ""])
        table += [
            [
                f"{row['part']} ({row['unit']})",
                figure(row, "published"),
                figure(row, "value"),
                ends(row),
                figure(row, "margin"),
                row["verdict"],
                f"{row['seeds']} × {row['attributes']}",
            ]
            for row in parts
        ]
    return markdown(table, "lrrrrlr") if rows else NONE


def speed(rows: Sequence[Row]) -> str:
    """A line a figure: the ratio's median with its quartiles, and the goal."""
    table = [["measured", "against", "ratio (quartiles)", "goal"]]
    for row in rows:
        goal = f"{row['goal']}: {row['verdict']}" if row["goal"] else "–"
        ratio = f"{number(row['median'])} ({number(row['low'])}–{number(row['high'])})"
        table.append([row["measured"], row["against"], ratio, goal])
    return markdown(table, "llrl") if rows else NONE


def markdown(table: Sequence[Sequence[str]], align: str) -> str:
    """A head and rows of cells; align: l or r, a letter a column."""
    rule = ["---:" if one == "r" else "---" for one in align]
    cells = [[cell.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for cell in line] for line in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in [cells[0], rule, *cells[1:]])
