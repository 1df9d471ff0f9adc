"""Every pair of judges compared on the answers that both were shown: a row an attribute, dimension and ordered pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.evaluation.agreement import Agreement, agreement_of
from psr.evaluation.bootstrap import Interval
from tasks.figures.entries import known
from tasks.studies.agreement.answers import Answers
from tasks.studies.agreement.table import PEOPLE, stored
from tasks.tables.parquet import read_judgements

Row = dict[str, Any]
# (attribute, dimension) -> judge -> completion -> 0 to 1, or nan
Values = dict[tuple[str, str], dict[str, dict[str, float]]]
PARTS = ("equal", "kappa", "auc", "spearman", "distance")


def compared(data: Path, answers: Answers, bootstrap: Mapping[str, Any]) -> list[Row]:
    """The rows of the table `agreement`. bootstrap: resamples and seed. Raises PsrError where no two judges share an answer."""
    rows: list[Row] = []
    judged = values_by_judge(data, answers)
    for (attribute, dimension), of_judge in judged.items():
        for judge, other in permutations(of_judge, 2):
            shared = [one for one in of_judge[judge] if one in of_judge[other]]
            if shared:
                values, others = ([of_judge[name][one] for one in shared] for name in (judge, other))
                questions = [answers.items[one].question for one in shared]
                agreement = agreement_of(values, others, questions, **bootstrap)
                row = {"attribute": attribute, "dimension": dimension, "judge": judge, "other": other}
                rows.append({**row, **columns(agreement)})
    if not rows:
        judges = sorted({judge for of_judge in judged.values() for judge in of_judge})
        raise PsrError(
            "no two judges have judged the same answers",
            where=data,
            expected="at least two judges",
            got=", ".join(judges) or "none",
            do="Add one with --judge, or people with --export and --import.",
        )
    return rows


def values_by_judge(data: Path, answers: Answers) -> Values:
    """What the profile's own judges said, then all others, by attribute and dimension; nan where one gave no value."""
    values: Values = {}
    for judge, completion, dimension, value in (*_own(data, answers), *_added(data, answers)):
        group = values.setdefault((answers.items[completion].attribute, dimension), {})
        group.setdefault(judge, {})[completion] = value
    return dict(sorted(values.items(), key=lambda group: group[0][0]))


def outdated(data: Path, answers: Answers) -> dict[str, int]:
    """Judge -> how many of the answers that it judged are not there any more; they are left out."""
    gone = {(row["judge"], row["completion"]) for row in stored(data, "verdicts") if not _current(row, answers)}
    return {judge: sum(1 for one, _ in gone if one == judge) for judge in sorted({judge for judge, _ in gone})}


def columns(agreement: Agreement) -> Row:
    """An agreement as columns: its figures, each followed by the ends of its interval."""
    row: Row = {name: getattr(agreement, name) for name in ("n", "missing", "missing_other", "mean", "mean_other")}
    for part in PARTS:
        figure: Interval | None = getattr(agreement, part)
        ends: tuple[float | None, ...] = (None, None, None) if figure is None else tuple(map(known, figure))
        row |= dict(zip((part, f"{part}_low", f"{part}_high"), ends, strict=True))
    return row


def _own(data: Path, answers: Answers) -> Iterator[tuple[str, str, str, float]]:
    for one in read_judgements(data / "judge/judgements.parquet"):
        if one.completion in answers.items:
            yield one.judge, one.completion, one.dimension, _share(one.value, one.scale)


def _added(data: Path, answers: Answers) -> Iterator[tuple[str, str, str, float]]:
    for row in sorted(stored(data, "verdicts"), key=lambda row: (row["judge"].startswith(PEOPLE), row["judge"])):
        if _current(row, answers):
            yield row["judge"], row["completion"], row["dimension"], _share(row["value"], row["scale"])


def _current(row: Row, answers: Answers) -> bool:
    return answers.texts.get(row["completion"]) == row["answer"]


def _share(value: float | None, scale: float) -> float:
    return float("nan") if value is None else value / scale
