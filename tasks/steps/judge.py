"""Judging what was completed, by the judge of each benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psr.judges.judging import Judge
from tasks.asking.judgements import judge_once, judged_by
from tasks.engine.cells import Cells
from tasks.engine.context import StepContext
from tasks.tables.gather import gather
from tasks.tables.parquet import read_completions, read_pairs, write_judgements


def judge_completions(context: StepContext, judges: Mapping[str, Judge], source: Path) -> None:
    """Judge every completion of the folder `source`; write the table of judgements. judges: by attribute."""
    asked = {"source": source, "cells": context.cells}
    calls = {
        key: {"attribute": key, "judge": judge, "label": f"{context.step} {key}", **asked}
        for key, judge in judges.items()
    }
    gather(context.map(judge_attribute, calls), context.out, ["judgements"])


def judge_attribute(attribute: str, judge: Judge, source: Path, cells: Cells, label: str) -> Path:
    """Judge the completions of `source` that answer the attribute's questions. Returns the cell: judgements."""
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet", attribute=attribute)}
    ours = read_completions(source / "completions.parquet", pairs=pairs)

    def write(folder: Path) -> None:
        write_judgements(folder / "judgements.parquet", judge_once(judge, ours, pairs, cells, label))

    by = judged_by(judge, {pairs[c.pair].attribute for c in ours})
    return cells.keep("judge", (by, [(c.id, c.text) for c in ours]), write)
