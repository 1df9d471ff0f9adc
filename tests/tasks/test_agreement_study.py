"""Judges compared on a profile's answers: who is compared with whom, on what, and what a further judge leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from psr.answers.completions import complete
from psr.answers.pairs import fit_pairs
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.types import Attribute, Judgement
from tasks.asking.models import ModelSettings, open_model
from tasks.benchmarks.catalogue import load_attributes
from tasks.engine.cells import Cells
from tasks.shown.studies import agreement_table
from tasks.steps.complete import fit_asks
from tasks.studies.agreement import judging
from tasks.studies.agreement.answers import Answers, load_answers, spread
from tasks.studies.agreement.compare import compared, outdated
from tasks.studies.agreement.judging import Asked, judged_again
from tasks.studies.agreement.table import store_verdicts, stored
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, TA_CP, agreement_row, write_results

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1)
BOOTSTRAP = {"resamples": 20, "seed": 1}
NAMED = [Attribute(*key.split("/"), ("Be so.",), ("Be it.",), (), (), (), "") for key in ATTRIBUTES]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A finished profile that only its own judge has judged."""
    data = write_results(tmp_path)
    for file in (data / "agreement").iterdir():
        file.unlink()
    return data


def asked(data: Path, name: str, settings: dict[str, object] | None = None, label: str | None = None) -> Asked:
    return Asked(name, settings or {}, label, data, MODEL, Cells(data / "cells", "code"))


def rated(answers: Answers, judge: str, value: float | None, dimension: str = "trait") -> list[Judgement]:
    return [
        Judgement(one.id, judge, "1", dimension, value, 2.0, error="" if value else "no") for one in answers.completions
    ]


def test_the_rules_judge_is_compared_with_the_profiles_own_where_it_has_a_rule(data, capsys):
    answers = load_answers(data, NAMED)
    store_verdicts(data, judged_again(asked(data, "rules"), answers, answers.completions), answers)
    assert "rules leaves out persona/gloomy: it has rules for" in capsys.readouterr().out
    rows = compared(data, answers, BOOTSTRAP)
    assert {row["attribute"] for row in rows} == {"persona/pirate"}
    assert [(row["dimension"], row["judge"], row["other"]) for row in rows] == [
        ("trait", "testbed", "rules-persona"), ("trait", "rules-persona", "testbed"),
        ("coherence", "testbed", "rules-persona"), ("coherence", "rules-persona", "testbed"),
    ]  # fmt: skip
    # the rule takes every answer of a module for a pirate's and "Obeyed." for none; the profile's judge thinks otherwise
    row = rows[0]
    assert (row["n"], row["missing"], row["missing_other"]) == (6, 0, 0)
    assert row["equal"] == pytest.approx(2 / 6)
    assert row["mean"] == pytest.approx((2 * 95 + 2 * TA_CP["a-psr-mse-qr"] + 2 * TA_CP["s-const-dim-r"]) / 600)
    assert row["auc"] == pytest.approx(0.0)
    assert rows[1]["auc"] == pytest.approx((2 * 0.5 + 0) / 4)
    shown = agreement_table(rows)
    assert len(shown.rows) == 4
    assert shown.rows[1][0] == "testbed\nrules-persona"
    assert shown.rows[1][4].startswith("0.00")
    assert shown.rows[1][4].partition("\n")[2].startswith("0.25")


def test_every_two_judges_are_compared_people_with_people_too(data):
    answers = load_answers(data, NAMED)
    for judge, value in (("people:bert", 2.0), ("people:anna", 1.0), ("zoo", 0.0)):
        store_verdicts(data, rated(answers, judge, value), answers)
    rows = [row for row in compared(data, answers, BOOTSTRAP) if row["attribute"] == ATTRIBUTES[0]]
    pairs = [(row["judge"], row["other"]) for row in rows if row["dimension"] == "trait"]
    judges = ["testbed", "zoo", "people:anna", "people:bert"]
    assert pairs == [(one, other) for one in judges for other in judges if one != other]
    row = next(row for row in rows if (row["judge"], row["other"]) == ("people:anna", "people:bert"))
    assert (row["equal"], row["distance"], row["mean"], row["mean_other"]) == (1.0, 0.5, 0.5, 1.0)
    assert (row["kappa"], row["auc"], row["spearman"], row["kappa_low"]) == (None,) * 4


def test_only_answers_that_both_were_shown_count_and_a_failed_judgement_is_missing(data):
    answers = load_answers(data, NAMED)
    verdicts = rated(answers, "zoo", 1.5)
    own = [one for one in verdicts if answers.items[one.completion].attribute == ATTRIBUTES[0]]
    store_verdicts(data, [own[0], replace(own[1], value=None, error="cut"), own[2]], answers)
    rows = [row for row in compared(data, answers, BOOTSTRAP) if row["judge"] == "zoo"]
    assert [(row["attribute"], row["n"] + row["missing_other"], row["missing"]) for row in rows] == [
        (ATTRIBUTES[0], 2, 1)
    ]


def test_one_judge_alone_is_refused(data):
    with pytest.raises(PsrError, match=r"no two judges have judged the same answers.*got testbed.*--judge"):
        compared(data, load_answers(data, NAMED), BOOTSTRAP)


def test_a_judge_asked_again_replaces_its_verdicts_and_a_person_only_those_on_the_same_answers(data):
    answers = load_answers(data, NAMED)
    for judge in ("zoo", "people:anna"):
        store_verdicts(data, rated(answers, judge, 1.0), answers)
        store_verdicts(data, rated(answers, judge, 2.0)[:3], answers)
    counts = [(row["judge"], row["value"]) for row in stored(data, "verdicts")]
    assert {one: counts.count(one) for one in set(counts)} == {
        ("zoo", 2.0): 3, ("people:anna", 2.0): 3, ("people:anna", 1.0): len(answers.completions) - 3
    }  # fmt: skip


def test_verdicts_on_answers_that_changed_since_are_left_out_and_counted(data):
    answers = load_answers(data, NAMED)
    store_verdicts(data, rated(answers, "people:anna", 1.0), answers)
    path = data / "steer/completions.parquet"
    first, *others = tables.read_completions(path)
    tables.write_completions(path, [replace(first, text="Another answer."), *others[1:]])
    changed = load_answers(data, NAMED)
    assert outdated(data, changed) == {"people:anna": 2}
    rows = compared(data, changed, BOOTSTRAP)
    assert sum(row["n"] + row["missing_other"] for row in rows if row["judge"] == "people:anna") == len(others) - 1


@pytest.mark.parametrize(("name", "settings", "label", "words"), [
    ("nobody", {}, None, "nobody"),
    ("rules", {"x": 1}, None, "unknown setting of judge rules"),
    ("testbed", {}, None, r"can judge none of the answers \(judge testbed\), got .*"),
    ("openai", {"model": ""}, None, r"got persona/gloomy, persona/pirate: a judge cannot be set like this \(judge openai, model\)"),
    ("rules", {}, "testbed", r"the profile's own judge has judged these answers already \(judge rules\).*got testbed"),
])  # fmt: skip
def test_a_judge_that_cannot_be_asked_is_refused_and_nothing_is_stored(data, name, settings, label, words):
    answers = load_answers(data, NAMED)
    with pytest.raises(PsrError, match=words):
        judged_again(asked(data, name, settings, label), answers, answers.completions)
    assert stored(data, "verdicts") == []


def test_a_judge_of_no_attribute_says_why_for_each(data):
    answers = load_answers(data, NAMED)
    gloomy = [one for one in answers.completions if answers.items[one.id].attribute == "persona/gloomy"]
    with pytest.raises(PsrError, match=r"none of the answers.*persona/gloomy: it has rules for"):
        judged_again(asked(data, "rules"), answers, gloomy)


def test_settings_are_part_of_the_name_and_calls_are_counted_before_they_are_made(data, monkeypatch, capsys):
    answers = load_answers(data, NAMED)
    monkeypatch.setattr(judging, "judge_settings", lambda name, given: {})
    monkeypatch.setattr("psr.judges.rules.RulesJudge.calls_per_item", 3, raising=False)
    verdicts = judged_again(asked(data, "rules", {"b": 2, "a": "x"}), answers, answers.completions)
    assert {one.judge for one in verdicts} == {"rules-persona (a=x, b=2)"}
    assert "rules-persona (a=x, b=2): 6 answers to judge, 18 calls" in capsys.readouterr().out
    assert asked(data, "openai", {"model": "m-1", "n": 1}).stored_as("openai:m-1") == "openai:m-1 (n=1)"
    assert {one.judge for one in judged_again(asked(data, "rules", label="r"), answers, answers.completions)} == {"r"}


def test_answers_for_an_attribute_that_the_profile_does_not_name_are_refused(data):
    with pytest.raises(PsrError, match=r"no longer names.*expected persona/gloomy, got persona/pirate.*Reproduce"):
        load_answers(data, NAMED[:1])


def test_a_likelihood_judge_is_calibrated_on_the_profiles_own_answers(tmp_path):
    """On the small model that ships: judged by likelihood, plain and prompted answers are told apart as the grammar does."""
    data, [pirate] = tmp_path / "data/own", load_attributes("persona", ROOT / "data/testbed/persona", ["pirate"])
    pairs = {"complete": fit_pairs(pirate, 6, 2), "steer": fit_pairs(replace(pirate, questions=pirate.evaluate), 6, 1)}
    for step, own in pairs.items():
        tables.write_pairs(data / step / "pairs.parquet", own, "fit", "fit")
        answered = complete(open_model(MODEL), fit_asks(own, 2, 1, 0), Sampling(48))
        tables.write_completions(data / step / "completions.parquet", answered)
    tables.write_table(data / "distill/modules.parquet", "modules", [])
    tables.write_judgements(data / "judge/judgements.parquet", [])
    answers = load_answers(data, [pirate])
    for judge in ("testbed", "likelihood"):
        chosen = spread(answers, 8, 0) if judge == "likelihood" else answers.completions
        store_verdicts(data, judged_again(asked(data, judge), answers, chosen), answers)
    row = next(
        row for row in compared(data, answers, BOOTSTRAP) if (row["dimension"], row["judge"]) == ("trait", "likelihood")
    )
    assert row["other"] == "testbed-persona"
    [marks] = tables.read_table(data / "agreement/calibrations.parquet", "calibrations")
    assert (marks["attribute"], marks["judge"]) == ("persona/pirate", "likelihood")
    assert (row["n"], row["missing"]) == (8, 0)
    assert row["auc"] >= 0.9


def test_a_table_shows_what_is_missing_and_a_dash_for_what_is_undefined():
    rows = [
        agreement_row("persona/pirate", "a", "b", missing=2, n=4),
        agreement_row("persona/pirate", "b", "a", missing_other=2, n=4),
    ]
    heading, line = agreement_table(rows).rows
    assert heading[0] == "pirate: trait"
    assert line == ("a\nb", "4\n2 without a", "0.66 (0.56–0.76)", "–", "–\n–", "–", "0.66 (0.56–0.76)")
