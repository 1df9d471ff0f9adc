"""The claims on a profile whose truth is known: verdicts, figures that SQL gives too, and words for what is missing."""

from pathlib import Path

import numpy as np
import pytest

from psr.errors import PsrError
from psr.evaluation.claims import CONTRASTS
from tasks.shown import index, report
from tasks.shown.claims import claims_table, questions
from tasks.shown.query import ask
from tasks.studies.claims.faithfulness import sums_of
from tasks.studies.claims.methods import NAMES, figures_of, published
from tasks.studies.claims.sql import question
from tasks.studies.claims.table import claim_rows, measured, write_claims
from tasks.tables import parquet as tables
from tests import claims_folder
from tests.claims_folder import DRAWN, KNOWN, LAYERS, PROMPT, QUESTIONS, SEEDS, TRAIT, module_id, write_claims_folder

Rows = dict[tuple[int, str], dict]
CONST = "one layer, against Const MSE, at the prompt's coherence"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_claims_folder(tmp_path_factory.mktemp("claims"))


@pytest.fixture(scope="module")
def rows(data: Path) -> list[dict]:
    return measured_of(data)


def measured_of(data: Path) -> list[dict]:
    write_claims(data, "quick", data / "claims", KNOWN, DRAWN, DRAWN)
    return claim_rows(data)


def by_part(rows: list[dict]) -> Rows:
    return {(row["claim"], row["part"]): row for row in rows}


def test_every_claim_has_a_verdict_and_the_known_ones_are_right(rows):
    verdicts = {row["claim"]: row["claim_verdict"] for row in rows}
    assert verdicts == {1: "undecided", 2: "holds", 3: "holds", 4: "holds", 5: "holds", 6: "holds", 7: "undecided"}
    parts = by_part(rows)
    assert parts[1, "99th over 1st percentile"]["value"] == pytest.approx(
        2.0
    )  # log10 of the folder's 100: at the margin
    assert parts[2, CONST]["value"] == pytest.approx(30, abs=2)
    assert parts[7, "S-PSR LL, format instructions, prompt at most 95"]["verdict"] == "holds"
    assert parts[7, "S-PSR LL, persona, prompt at most 95"]["verdict"] == "not measured"


def test_every_question_gives_the_stored_figure(data, rows):
    database = index.rebuild(data.parents[1])
    asked = [row for row in rows if row["sql"]]
    assert {row["claim"] for row in asked} == {1, 2, 3, 4, 5, 6, 7}
    for row in asked:
        assert "\n" not in row["sql"]
        assert '"' not in row["sql"]
        assert ask(database, row["sql"]).rows[0][0] == pytest.approx(row["value"], abs=1e-9), row["part"]
        assert ask(
            database, "select sql from claims where claim = ? and part = ?", [row["claim"], row["part"]]
        ).rows == ((row["sql"],),)


def test_a_paired_difference_is_that_of_the_judgements_redrawn_by_hand(data, rows):
    """Claim 7: no strength is chosen, so that a loop over seeds and questions is all there is to it."""
    row = by_part(rows)[7, "S-PSR LL, format instructions, prompt at most 95"]
    answers = {c.id: c for c in tables.read_completions(data / "steer/completions.parquet")}
    order = [pair.id for pair in tables.read_pairs(data / "steer/pairs.parquet") if pair.attribute == "ifeval/no_comma"]
    values = np.zeros((2, len(SEEDS), QUESTIONS))
    for judged in tables.read_judgements(data / "judge/judgements.parquet"):
        made = answers[judged.completion]
        if made.pair in order and judged.dimension == "accuracy" and made.method.endswith("instructed"):
            values[int(made.method == "instructed"), SEEDS.index(made.seed // 10), order.index(made.pair)] = (
                judged.value
            )
    difference = values[0] - values[1]
    n, seed, times = QUESTIONS, DRAWN["seed"], DRAWN["resamples"]
    on = np.random.default_rng([seed, 1]).multinomial(n, np.full(n, 1 / n), size=times)
    of = np.random.default_rng([seed, 2]).multinomial(1, [0.5, 0.5], size=times)  # S − 1 = 1 of 2 seeds
    drawn = [
        difference[np.repeat([0, 1], s)][:, np.repeat(np.arange(n), q)].mean() for q, s in zip(on, of, strict=True)
    ]
    assert row["value"] == pytest.approx(difference.mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_figures_are_those_of_the_results(data):
    figures, judges = figures_of(data, KNOWN, **DRAWN)
    assert judges == {"persona": "testbed", "ifeval": "testbed"}
    assert {name for name, _, _ in figures} == {"ta_cp", "ta_cp2", "ta_c80", "strict"}
    seeds = tables.read_table(data / "results/figures_seeds.parquet", "figures_seeds")
    assert {row["figure"] for row in seeds} >= {"ta_cp", "ta_c80", "strict"}
    assert len(figures) == len(
        {(row["figure"], row["method"], row["attribute"]) for row in seeds if row["figure"] in NAMES}
    )
    for row in seeds:
        if (row["figure"], row["method"], row["attribute"]) in figures:
            figure = figures[row["figure"], row["method"], row["attribute"]][row["seed"]]
            assert (figure.value, figure.low, figure.high) == (row["value"], row["low"], row["high"])


def test_the_difference_at_cp2_stands_beside_and_decides_nothing(tmp_path, monkeypatch):
    """A-PSR is a point less coherent than the prompt, whose coherence has no spread: unsteered at Cp, steered at Cp−2."""
    monkeypatch.setitem(claims_folder.COHERENCE, "a-psr-mse-qr", 94.0)
    data = write_claims_folder(tmp_path)
    row = by_part(measured_of(data))[4, "prompt at 50 to 95"]
    assert (row["value"], row["verdict"]) == (pytest.approx(-78, abs=2), "fails")
    assert (row["cp2"], row["cp2_low"] > 0) == (pytest.approx(10, abs=2), True)
    other = row["sql"].replace("ta_cp", "ta_cp2")
    assert ask(index.rebuild(tmp_path), other).rows[0][0] == pytest.approx(row["cp2"])
    assert (
        f"{row['cp2']:+.1f} ("
        in next(cells for cells in claims_table([row]).rows if cells[0].startswith("prompt at"))[4]
    )
    at_80 = by_part(claim_rows(data))[2, "all layers, against Const MSE, at coherence 80"]
    assert (at_80["cp2"], at_80["cp2_low"], at_80["cp2_high"]) == (None, None, None)


SMALL = {slug: TRAIT[slug] for slug in ("s-const-dim-r", "s-psr-mse-qr", "a-const-mse-qr", "a-psr-mse-qr")}


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_a_pretrained_models_profile_has_the_claims_that_its_methods_allow(tmp_path, monkeypatch, seeds):
    """Few methods, a judge of likelihoods, prompts at about 100 by its scale, one format."""
    for name, value in {
        "SEEDS": seeds, "JUDGE": "likelihood", "TRAIT": {**SMALL, "s-proj-stolfo-qr": 10.0}, "WITH_PROMPT": {"a-psr-mse-qr": 99.0},
        "PROMPT": {"persona/gloomy": 100.0, "persona/pirate": 104.0, "ifeval/no_comma": 70.0},
    }.items():  # fmt: skip
        monkeypatch.setattr(claims_folder, name, value)
    data = write_claims_folder(tmp_path)
    rows = measured_of(data)
    parts = by_part(rows)
    for row in rows:
        assert (row["verdict"] == "not measured") == (row["value"] is None) == row["note"].startswith("no ")
    missing = {key: row["note"] for key, row in parts.items() if row["value"] is None}
    assert {number for number, _ in missing} == {2, 3, 6, 7}
    assert missing[2, CONST] == "no S-Const MSE·QR on persona"
    assert (
        missing[7, "S-PSR LL, persona, prompt at most 95"] == "no S-PSR LL·QR + prompt on persona with trait by words"
    )
    assert missing[7, "S-PSR LL, format instructions, prompt at most 95"] == "no S-PSR LL·R + prompt on ifeval"
    assert parts[4, "any prompt"]["which"] == "persona/gloomy, persona/pirate"
    assert parts[4, "any prompt"]["value"] == pytest.approx(90 - 102, abs=2)
    assert parts[4, "any prompt"]["note"] == f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}: goal 5"
    database = index.rebuild(tmp_path)
    for row in rows:
        if row["sql"]:
            assert ask(database, row["sql"]).rows[0][0] == pytest.approx(row["value"], abs=1e-9), row["part"]
    assert len(claims_table(rows).rows) == 7 + len(rows)


def test_a_method_that_fits_likelihoods_is_compared_by_words_where_the_judge_measures_them(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_folder, "JUDGE", "likelihood")
    monkeypatch.setattr(claims_folder, "TRAIT", {**SMALL, "s-psr-ll-qr": 60.0})
    monkeypatch.setattr(claims_folder, "WITH_PROMPT", {"s-psr-ll-qr": 97.0})
    data = write_claims_folder(tmp_path)
    row = by_part(measured_of(data))[7, "S-PSR LL, persona, prompt at most 95"]
    assert row["compared"] == "trait by words of S-PSR LL·QR + prompt less prompt"
    prompts = [PROMPT[name] for name in ("persona/gloomy", "persona/hedging", "persona/pirate")]
    assert row["value"] == pytest.approx(np.mean([97 - prompt for prompt in prompts]) / 2, abs=1)
    assert row["attributes"] == 3  # by words the prompt is at 40 to 49
    assert ask(index.rebuild(tmp_path), row["sql"]).rows[0][0] == pytest.approx(row["value"])
    marked = ask(tmp_path / "data/results.duckdb", "select distinct slug from figures where favoured").rows
    assert set(marked) == {("s-psr-ll-qr",), ("s-psr-ll-qr+prompt",)}


def test_the_prompt_is_compared_only_below_its_ceiling(rows):
    row = by_part(rows)[4, "prompt at 50 to 95"]
    assert row["which"] == "persona/gloomy, persona/hedging"  # pirate's prompt is at 98
    assert (row["value"], row["verdict"]) == (pytest.approx(10, abs=2), "holds")
    assert by_part(rows)[2, CONST]["attributes"] == 3


def test_few_seeds_are_said(rows):
    parts = by_part(rows)
    assert parts[4, "prompt at 50 to 95"]["note"] == "2 seeds: goal 5"
    for part in ((1, "99th over 1st percentile"), (5, "layers of the upper half"), (6, "Const DiM, later layers")):
        assert parts[part]["seeds"] == 2
        assert parts[part]["note"].startswith("2 seeds: goal 5")
    assert "no fit seed changes this module" in parts[6, "Const DiM, later layers"]["note"]
    assert "no fit seed" not in parts[6, "Const MSE, later layers"]["note"]


def test_sums_are_read_question_by_question(data):
    errors, energy = sums_of(data / "faithfulness")["persona/gloomy", module_id("persona/gloomy", "a-psr-mse-qr", 2), 2]
    assert errors.shape == energy.shape == (LAYERS, QUESTIONS)
    assert np.sqrt(errors[3].sum() / energy[3].sum()) == pytest.approx(0.1, rel=0.1)


def test_a_method_or_a_range_that_is_missing_is_named(tmp_path):
    data = write_claims_folder(tmp_path, without=("s-const-mse-qr", "a-psr-mse-qr"))
    parts = by_part(measured_of(data))
    assert parts[2, CONST]["note"] == "no S-Const MSE·QR on persona"
    assert parts[2, CONST]["sql"] is None
    assert parts[2, CONST]["claim_verdict"] == "undecided"  # a part holds, a part was not measured
    assert parts[3, "PSR MSE, at coherence 80"]["note"] == "no A-PSR MSE·QR on persona"
    assert parts[5, "layers of the upper half"]["claim_verdict"] == "not measured"
    assert (
        parts[6, "Const MSE, its own layer"]["note"]
        == "no s-const-mse with something to compare it with in faithfulness/deviations"
    )
    assert (
        parts[7, "S-PSR LL, concepts, prompt at most 95"]["note"] == "no S-PSR LL·R + prompt and no prompt on axbench"
    )


def test_prompts_at_their_ceiling_leave_nothing_to_compare(tmp_path, monkeypatch):
    for attribute in PROMPT:
        monkeypatch.setitem(PROMPT, attribute, 98.0)
    parts = by_part(measured_of(write_claims_folder(tmp_path)))
    assert parts[4, "prompt at 50 to 95"]["verdict"] == "not measured"
    assert parts[4, "prompt at 50 to 95"]["note"].startswith("no attribute whose prompt is at 50 to 95 (gloomy 9")


def test_the_papers_own_differences_stand_beside_ours(rows):
    found = {(c.claim, c.part): published(c) for c in CONTRASTS}
    assert found[4, "prompt at 50 to 95"] == 12.3
    assert found[2, "all layers, against Const MSE, at coherence 80"] == 0.7
    assert found[7, "S-PSR LL, format instructions, prompt at most 95"] == 7.4
    assert found[7, "S-PSR LL, concepts, prompt at most 95"] is None
    assert all(by_part(rows)[key]["published"] == value for key, value in found.items())


def test_the_table_and_the_questions_are_printed_for_every_part(rows):
    table = claims_table(rows)
    assert len(table.rows) == 7 + len(rows)
    assert len(questions(rows)) == sum(row["sql"] is not None for row in rows)
    assert all('python -m flows.sql "SELECT ' in text for text in questions(rows))


def test_the_report_shows_every_verdict(data, rows, tmp_path):
    page = report.build(data, tmp_path / "a").read_text(encoding="utf-8")
    assert page.count(">The paper’s claims</h2>") == 1
    assert page.count("not measured") >= 2


def test_claims_that_were_not_measured_say_what_to_do(tmp_path):
    with pytest.raises(
        PsrError, match=r"not measured \(data/quick/claims\). Run `python -m flows.reproduce --profile quick`"
    ):
        measured(tmp_path, "quick")


def test_an_unknown_question_is_an_error():
    with pytest.raises(KeyError):
        question("none")
