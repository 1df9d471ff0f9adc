"""What the study stores in data/PROFILE/agreement: verdicts of further judges and people, and the comparison of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from psr.types import Judgement
from tasks.studies.agreement.answers import Answers
from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]
PEOPLE = "people:"  # how the names of judges who are people begin


def stored(data: Path, name: str) -> list[Row]:
    """The rows of the table `verdicts` or `agreement` of the profile in `data`; empty before the first run."""
    path = _path(data, name)
    return read_table(path, name) if path.exists() else []


def store_verdicts(data: Path, judgements: Iterable[Judgement], answers: Answers) -> None:
    """Store the verdicts of judges whom the profile's figures do not come from. A judge's earlier ones are replaced, since its
    settings may have been others; a person may fill several sheets, and only what is rated again is replaced."""
    rows = [
        {
            "judge": one.judge, "rubric": one.rubric, "completion": one.completion, "answer": answers.texts[one.completion],
            "dimension": one.dimension, "value": one.value, "scale": one.scale, "raw": one.raw, "error": one.error,
        }
        for one in judgements
    ]  # fmt: skip
    judges = {row["judge"] for row in rows}
    again = {(row["judge"], row["completion"]) for row in rows}
    kept = [
        row
        for row in stored(data, "verdicts")
        if row["judge"] not in judges
        or (row["judge"].startswith(PEOPLE) and (row["judge"], row["completion"]) not in again)
    ]
    write_table(_path(data, "verdicts"), "verdicts", [*kept, *rows])


def store_agreement(data: Path, rows: Sequence[Row]) -> None:
    """Store the comparison in place of the last one."""
    write_table(_path(data, "agreement"), "agreement", rows)


def _path(data: Path, name: str) -> Path:
    return data / "agreement" / f"{name}.parquet"
