"""Judges that have to see answers first: calibrated once, in the step `select`, on the answers to the fitting questions.

Such a judge has two methods more than the others (psr.judges.likelihoods has them):
    calibrate(lm, attribute, plain, prompted)    items of an attribute's answers without and with the prompt -> Calibration
    ready(open_model, calibrations)              the judge to ask, given those of all its attributes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, PLAIN, JudgeItem
from tasks.asking.judgements import judged_by
from tasks.asking.kept import keeping
from tasks.asking.models import ModelSettings, open_model
from tasks.engine.cells import Cells
from tasks.engine.context import StepContext
from tasks.engine.progress import say
from tasks.tables.gather import gather
from tasks.tables.parquet import read_completions, read_pairs, read_table, write_table

if TYPE_CHECKING:
    from psr.judges.likelihoods import Calibration


def calibrate_judges(context: StepContext, judges: Mapping[str, Judge], source: Path, model: ModelSettings) -> None:
    """Write calibrations.parquet to the step's output: a row for each attribute whose judge needs one.

    source: the folder with the answers. Raises PsrError for an attribute that its judge cannot judge.
    """
    calls = {
        f"calibrate {attribute}": {
            "attribute": attribute, "judge": judge, "source": source, "model": model, "cells": context.cells
        }
        for judge in judges.values()
        if hasattr(judge, "calibrate")
        for attribute in judge.attributes  # type: ignore[attr-defined]
    }  # fmt: skip
    gather(context.map(calibrate_attribute, calls), context.out, ["calibrations"])


def calibrate_attribute(attribute: str, judge: Any, source: Path, model: ModelSettings, cells: Cells) -> Path:
    """Calibrate the judge of one attribute. Returns the cell: its row."""
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet") if pair.attribute == attribute}
    answers = [one for one in read_completions(source / "completions.parquet") if one.pair in pairs]
    items = {
        method: [JudgeItem.of(one, pairs[one.pair]) for one in answers if one.method == method]
        for method in (PLAIN, INSTRUCTED)
    }

    def write(folder: Path) -> None:
        try:
            calibration = judge.calibrate(open_model(model), attribute, items[PLAIN], items[INSTRUCTED])
        except PsrError as error:
            raise PsrError(error.what, where=f"judge {judge.id}, {attribute}", expected=error.expected, got=error.got,
                           do=error.do) from None  # fmt: skip
        row = row_of(attribute, judge, calibration)
        say(f"calibrate {attribute}: judge {judge.id} tells prompted from plain answers with AUC {row['auc']:.3f}")
        write_table(folder / "calibrations.parquet", "calibrations", [row])

    reads = (model.reads, judged_by(judge, [attribute]), judge.answers, judge.attributes[attribute].held_out)
    return cells.keep("calibrations", (reads, [(one.id, one.text) for one in answers]), write)


def row_of(attribute: str, judge: Judge, calibration: Calibration) -> dict[str, Any]:
    """A calibration as a row; its marks are JSON, in which a mark may be Infinity."""
    kind, spoilt = min(calibration.judge["spoilt"].items(), key=lambda one: one[1])
    return {
        "attribute": attribute, "judge": judge.id, "rubric": judge.rubric, "auc": calibration.judge["auc"],
        "agreement": calibration.agreement, "spoilt": spoilt, "hardest": kind, "marks": json.dumps(dict(calibration.judge)),
    }  # fmt: skip


def ready(judges: Mapping[str, Judge], selected: Path, model: ModelSettings) -> dict[str, Judge]:
    """The judges, able to judge. selected: the output of the step `select`, data/PROFILE/select of the repository."""
    judges = keeping(judges, selected.parents[2])
    if not any(hasattr(judge, "ready") for judge in judges.values()):
        return judges
    from psr.judges.likelihoods import Calibration

    rows = read_table(selected / "calibrations.parquet", "calibrations")
    by_attribute = {row["attribute"]: Calibration(json.loads(row["marks"]), row["agreement"]) for row in rows}
    opened = partial(open_model, model)
    return {
        name: judge.ready(opened, {key: one for key, one in by_attribute.items() if key in judge.attributes})  # type: ignore[attr-defined]
        if hasattr(judge, "ready")
        else judge
        for name, judge in judges.items()
    }
