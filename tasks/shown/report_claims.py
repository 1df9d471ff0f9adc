"""The report's section on the paper's claims, as flows.claims measured them: a row a part, claim by claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
DIGITS = {"points": 1, "relative RMSE": 3}  # else 2


@dataclass(frozen=True)
class Section:
    """A claim with its parts; digits: decimals that its unit can carry."""

    number: int
    says: str
    verdict: str
    margin: float
    unit: str
    why: str
    digits: int
    parts: tuple[Row, ...]


def claim_sections(rows: Sequence[Row]) -> list[Section]:
    """The table `claims`, a section a claim; nothing where flows.claims never ran."""
    sections = []
    for number in sorted({row["claim"] for row in rows}):
        parts = tuple(row for row in rows if row["claim"] == number)
        first = parts[0]
        sections.append(
            Section(
                number,
                first["says"],
                first["claim_verdict"],
                first["margin"],
                first["unit"],
                first["why"],
                DIGITS.get(first["unit"], 2),
                parts,
            )
        )
    return sections
