"""The table `claims`: the paper's seven claims measured on a finished profile, in a file and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from psr.errors import PsrError
from psr.evaluation.claims import CLAIMS
from tasks.studies.claims.rows import Row, with_claims_verdict
from tasks.tables.parquet import read_table, write_table

DIGITS = {"points": 1, "relative RMSE": 3}  # decimals that a unit can carry; else 2
STYLE = {"holds": "green", "fails": "red", "undecided": "yellow"}


def write_claims(data: Path, profile: str, out: Path, results: dict[str, Any], faithfulness: dict[str, Any]) -> None:
    """Measure them on the profile in `data`, claim by claim; write out/claims.parquet.

    results, faithfulness: `resamples` and `seed` of these sections of params.yaml.
    """
    from tasks.studies.claims.faithfulness import faithfulness_rows
    from tasks.studies.claims.methods import method_rows

    rows = [*method_rows(data, profile, **results), *faithfulness_rows(data, profile, **faithfulness)]
    write_table(out / "claims.parquet", "claims", with_claims_verdict(sorted(rows, key=lambda row: row["claim"])))


def claim_rows(data: Path) -> list[Row]:
    """The claims of the profile in `data`; nothing before they were measured."""
    path = data / "claims" / "claims.parquet"
    return read_table(path, "claims") if path.exists() else []


def measured(data: Path, profile: str) -> list[Row]:
    """The same. Raises PsrError before they were measured."""
    rows = claim_rows(data)
    if not rows:
        raise PsrError(
            "the claims of this profile are not measured",
            where=f"data/{profile}/claims",
            do=f"Run `python -m flows.reproduce --profile {profile}` first.",
        )
    return rows


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
