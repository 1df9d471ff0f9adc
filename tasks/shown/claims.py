"""The claims as a terminal shows them, and how their figures are written elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from psr.evaluation.claims import CLAIMS

Row = dict[str, Any]
DIGITS = {"points": 1, "relative RMSE": 3}  # decimals that a unit can carry; else 2
STYLE = {"holds": "green", "fails": "red", "undecided": "yellow"}


def claims_table(rows: Sequence[Row]) -> Table:
    """A line a part below its claim: the difference with its interval, the margin, the verdict, and over what."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in (
        ("claim", False),
        ("paper", True),
        ("here", True),
        ("95 % interval", True),
        ("margin", True),
        ("", False),
        ("seeds × attributes", True),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for number in sorted({row["claim"] for row in rows}):
        parts = [row for row in rows if row["claim"] == number]
        claim = CLAIMS[number]
        table.add_row(
            Text(f"{number} {claim.says}", style="bold"), "", "", "", "", _verdict(parts[0]["claim_verdict"]), ""
        )
        for row in parts:
            table.add_row(
                _what(row),
                *(figure(row, name) for name in ("published", "value")),
                ends(row),
                figure(row, "margin"),
                _verdict(row["verdict"]),
                f"{row['seeds']} × {row['attributes']}",
            )
    return table


def figure(row: Row, column: str) -> str:
    """A difference in its unit; – where there is none."""
    value = row[column]
    return "–" if value is None else f"{value:+.{DIGITS.get(row['unit'], 2)}f}"


def ends(row: Row) -> str:
    """The interval, – where there is none."""
    return "–" if row["low"] is None else f"{figure(row, 'low')} to {figure(row, 'high')}"


def _what(row: Row) -> Text:
    return Text.assemble(
        f"  {row['part']}\n", (f"  {row['compared']}" + (f"; {row['note']}" if row["note"] else ""), "dim")
    )


def _verdict(verdict: str) -> Text:
    return Text(verdict, style=STYLE.get(verdict, "dim"))


def questions(rows: Sequence[Row]) -> list[str]:
    """Below the table: how to ask for each figure."""
    return [f'{row["claim"]} {row["part"]}:\npython -m flows.sql "{row["sql"]}"' for row in rows if row["sql"]]
