"""Judges that see answers first: calibrated once, kept as a row, and made ready from it by later steps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from psr.answers.completions import complete
from psr.answers.pairs import fit_pairs
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.judges.judging import judge_all
from psr.types import INSTRUCTED, JudgeItem
from tasks.asking import calibration
from tasks.asking.calibration import calibrate_judges, ready
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.catalogue import load_attributes
from tasks.benchmarks.judges import judge_settings, judges_named
from tasks.engine.cells import Cells
from tasks.engine.context import StepContext
from tasks.engine.runners import serial
from tasks.steps.complete import fit_asks
from tasks.tables.parquet import read_completions, read_table, write_completions, write_pairs

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1)
PIRATE = load_attributes("persona", ROOT / "data/testbed/persona", ["pirate"])
JUDGES = judges_named(PIRATE, "likelihood", answers=10)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The output of the step `complete`."""
    folder = tmp_path_factory.mktemp("complete")
    pairs = fit_pairs(PIRATE[0], 6, 2)
    write_pairs(folder / "pairs.parquet", pairs, "fit", "fit")
    asks = fit_asks(pairs, 2, 1, 0)
    write_completions(folder / "completions.parquet", complete(open_model(MODEL), asks, Sampling(48)))
    return folder


def context(folder):
    out = folder / "select"
    out.mkdir(exist_ok=True)
    return StepContext(folder, "own", "select", out, (), Cells(folder / "cells", "code"), serial)


def test_it_is_made_once_and_says_what_it_can_tell(source, tmp_path, monkeypatch):
    calibrate_judges(context(tmp_path), JUDGES, source, MODEL)
    [row] = read_table(tmp_path / "select/calibrations.parquet", "calibrations")
    marks = json.loads(row["marks"])
    assert (row["attribute"], row["judge"], row["auc"]) == ("persona/pirate", "likelihood", marks["auc"])
    assert row["spoilt"] == marks["spoilt"][row["hardest"]] == min(marks["spoilt"].values())
    assert marks["instructions"] == list(PIRATE[0].held_out)
    monkeypatch.setattr(type(JUDGES["persona"]), "calibrate", lambda *_: pytest.fail("calibrated again"))
    calibrate_judges(context(tmp_path), JUDGES, source, MODEL)


def test_later_steps_judge_by_the_row(source, tmp_path):
    calibrate_judges(context(tmp_path), JUDGES, source, MODEL)
    judge = ready(JUDGES, tmp_path / "select", MODEL)["persona"]
    prompted = [one for one in read_completions(source / "completions.parquet") if one.method == INSTRUCTED]
    items = [JudgeItem(one.id, "persona/pirate", "Tell me about trains.", one.text, one.finished) for one in prompted]
    judged = judge_all(judge, items).judgements
    assert {one.dimension for one in judged} == {"trait", "coherence", "words"}
    assert all(one.value is not None for one in judged)


def test_a_judge_that_needs_none_has_none(source, tmp_path):
    judges = judges_named(PIRATE, "testbed")
    calibrate_judges(context(tmp_path), judges, source, MODEL)
    assert read_table(tmp_path / "select/calibrations.parquet", "calibrations") == []
    assert ready(judges, tmp_path / "nowhere", MODEL) == judges


def test_an_attribute_that_cannot_be_told_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        calibration, "read_completions", lambda path: [replace(one, text="Yes.") for one in read_completions(path)]
    )
    with pytest.raises(PsrError, match=r"cannot tell.*judge likelihood, persona/pirate"):
        calibrate_judges(context(tmp_path), JUDGES, source, MODEL)


def test_what_it_is_given_by_steps_is_no_setting():
    assert judge_settings("likelihood", {}) == {"answers": 32}
    with pytest.raises(PsrError, match="unknown setting of judge likelihood"):
        judge_settings("likelihood", {"calibrations": {}})
