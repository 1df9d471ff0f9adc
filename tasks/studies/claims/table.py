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

NEEDED = (
    "distill/modules.parquet",
    "search/judgements.parquet",
    "steer/completions.parquet",
    "judge/judgements.parquet",
    "faithfulness/deviations.parquet",
    "results/headline_seeds.parquet",
)
DIGITS = {"points": 1, "relative RMSE": 3}  # decimals that a unit can carry; else 2
STYLE = {"holds": "green", "fails": "red", "undecided": "yellow"}


def check_finished(data: Path, profile: str) -> None:
    """Raise PsrError unless the profile's outputs that the claims are measured on are there."""
    missing = [name for name in NEEDED if not (data / name).is_file()]
    if missing:
        raise PsrError(
            "the claims are measured on a finished profile",
            where=f"data/{profile}",
            expected="the outputs of its stages",
            got=f"no {', '.join(missing)}",
            do=f"Run `python -m flows.reproduce --profile {profile}` first.",
        )


def measure(data: Path, profile: str, results: dict[str, Any], faithfulness: dict[str, Any]) -> list[Row]:
    """Rows of the table, claim by claim. results, faithfulness: `resamples` and `seed` of these sections of params.yaml."""
    from tasks.studies.claims.faithfulness import faithfulness_rows
    from tasks.studies.claims.methods import method_rows

    rows = [*method_rows(data, profile, **results), *faithfulness_rows(data, profile, **faithfulness)]
    return with_claims_verdict(sorted(rows, key=lambda row: row["claim"]))


def claims_file(data: Path) -> Path:
    """Where a profile's claims lie: no output of DVC's, since no stage waits for them."""
    return data / "claims" / "claims.parquet"


def claim_rows(data: Path) -> list[Row]:
    """What flows.claims measured of the profile in `data`; nothing before its first run."""
    path = claims_file(data)
    return read_table(path, "claims") if path.exists() else []


def store(data: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace what was measured before."""
    write_table(claims_file(data), "claims", rows)
    return list(rows)


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
