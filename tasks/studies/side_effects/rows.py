"""The rows of one attribute: a row a measure of each subject, with its difference to the prompt's on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psr.evaluation.bootstrap import Figure, paired
from tasks.figures.entries import known
from tasks.studies.side_effects.material import Case
from tasks.studies.side_effects.measures import Key, Measured, measured
from tasks.studies.side_effects.subjects import Subject, subjects

Row = dict[str, Any]
HALF = 50.0  # percent of the untouched model's answers that have to be in English for it to be the language to keep


def rows_of(case: Case, methods: Sequence[str]) -> list[Row]:
    """The rows of plain, prompt, the modules of these methods, and the control; subject after subject."""
    every = [(subject, measured(case, subject)) for subject in subjects(case, methods)]
    keeps_english([found for _, found in every])
    prompt = next(found for subject, found in every if subject.method == "prompt")
    shared = {"attribute": case.attribute.key, "seeds": len(case.seeds), "model": case.lm.fingerprint}
    return [
        {**shared, **row(subject, key, figure, prompt[key])}
        for subject, found in every
        for key, figure in found.items()
    ]


def keeps_english(every: Sequence[Measured]) -> None:
    """Take English from all subjects where the first, the untouched model, mostly answers in another language."""
    plain = every[0]["english", 0]
    if isinstance(plain, Figure) and plain.value < HALF:
        reason = f"the untouched model answers in English in {plain.value:.0f} of 100 cases"
        for found in every:
            found["english", 0] = reason


def row(subject: Subject, key: Key, found: Figure | str, prompt: Figure | str) -> Row:
    """One row; where `found` is a reason it has no value and says why."""
    values: Row = dict.fromkeys(
        ("value", "low", "high", "difference", "difference_low", "difference_high", "n", "n_unscored")
    )
    if isinstance(found, Figure):
        values |= {name: known(getattr(found, name)) for name in ("value", "low", "high", "n", "n_unscored")}
        if subject.method != "prompt" and isinstance(prompt, Figure):
            less = paired(found, prompt)
            values |= {f"difference{end}": known(x) for end, x in zip(("", "_low", "_high"), less, strict=True)}
    strengths = [one.strength for one in (subject.steered or {}).values()]
    return {
        "method": subject.method,
        "name": subject.name,
        "alpha": sum(one.alpha for one in strengths) / len(strengths) if strengths else None,
        "reached": all(one.reached for one in strengths),
        "measure": key[0],
        "turn": key[1],
        **values,
        "note": found if isinstance(found, str) else "",
    }
