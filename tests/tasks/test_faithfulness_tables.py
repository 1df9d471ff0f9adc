"""The tables of faithfulness on the shipped model: figures that follow from each other, and the report that draws them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from psr.answers.completions import Ask, complete
from psr.answers.pairs import held_out_pairs
from psr.answers.sampling import Sampling
from psr.lm.loading import load_model
from psr.steering.module import SteeringModule
from psr.types import PARAPHRASE, Triplet
from tasks.benchmarks.catalogue import load_attributes
from tasks.figures.delta import read_rows, share_rows, strength_rows, token_rows
from tasks.figures.study import Study, study_of
from tasks.shown.report_faithfulness import faithfulness, shown
from tasks.steps.faithfulness import deviation_rows, module_runs, paraphrase_errors
from tasks.steps.steer import shown_alpha
from tasks.tables.modules import candidate_rows, chosen_alpha
from tasks.tables.parquet import SCHEMAS, read_table, write_table
from tests.results_folder import SLUGS, module_id, write_results

ROOT = Path(__file__).resolve().parents[2]
MODULE = SteeringModule("const", "Const", (3,), "QR", "", {"z": torch.full((1, 128), 0.05)})


@pytest.fixture(scope="module")
def study() -> Study:
    torch.set_num_threads(2)
    lm = load_model(ROOT / "data/testbed/model")
    attribute = load_attributes("persona", ROOT / "data/testbed/persona", ["pirate"])[0]
    pairs = held_out_pairs(attribute, "evaluate", 3)
    made = complete(lm, [Ask(pair, "instructed", 5) for pair in pairs], Sampling(16, 1.0))
    return study_of(attribute, lm, pairs, made, 20, 1)


def test_the_figures_are_those_of_the_sums_and_the_floor_lies_between(study):
    module = replace(MODULE, model=study.lm.fingerprint)
    floor = paraphrase_errors(study)
    found = deviation_rows(study, [(PARAPHRASE, 0.0, True, floor), *module_runs(study, module, 0.5)], floor)
    errors, sums = found["faithfulness"], found["deviations"]
    assert [(e["method"], e["alpha"], e["chosen"]) for e in errors if e["layer"] == 0] == [
        (PARAPHRASE, 0.0, True),
        ("const", 0.5, True),
        ("const", 1.0, False),
    ]
    floor = {e["layer"]: e["relative_rmse"] for e in errors if e["method"] == PARAPHRASE}
    for row in errors:
        mine = [s for s in sums if all(s[key] == row[key] for key in ("method", "alpha", "layer"))]
        assert len(mine) == row["n"] == 3
        value = math.sqrt(sum(s["squared_error"] for s in mine) / sum(s["energy"] for s in mine))
        assert row["relative_rmse"] == pytest.approx(value)
        assert row["above_floor"] == pytest.approx(value - floor[row["layer"]], abs=1e-12)
        assert row["low"] <= value <= row["high"]
        if row["method"] == "const" and row["layer"] < 3:
            assert row["relative_rmse"] == 1.0
    assert all(0 < value < 0.5 for value in floor.values())
    assert len(sums) == len(errors) * 3


def test_alpha_zero_is_no_steering(study):
    runs = module_runs(study, replace(MODULE, model=study.lm.fingerprint), 0.0)
    errors = deviation_rows(study, runs, paraphrase_errors(study))["faithfulness"]
    assert {e["relative_rmse"] for e in errors if e["chosen"]} == {1.0}


def test_a_paraphrase_is_always_another_one_and_without_one_there_is_no_floor(study):
    alone = replace(
        study,
        attribute=replace(study.attribute, held_out=(), instructions=(study.pairs[0].instruction,)),
        pairs=[replace(pair, instruction=study.pairs[0].instruction) for pair in study.pairs],
    )
    assert paraphrase_errors(alone) is None
    (row, *_) = deviation_rows(alone, module_runs(alone, replace(MODULE, model=study.lm.fingerprint), 0.5), None)[
        "faithfulness"
    ]
    assert row["above_floor"] is None
    assert (paraphrase_errors(study) > 0).all()


def test_every_table_fits_its_schema(study, tmp_path):
    triplets = [Triplet(pair, answer, 1.0, 1.0) for pair, answer in zip(study.pairs, study.answers, strict=True)]
    found = {
        "delta": share_rows(study),
        "delta_strengths": strength_rows(study),
        "delta_tokens": token_rows(study, 2),
        "readability": read_rows(study, triplets),
    }
    for name, rows in found.items():
        rows = [{**row, "seed": 5} for row in rows]  # which repetition it is, its tables know
        write_table(tmp_path / f"{name}.parquet", name, rows)
        assert set(rows[0]) == set(SCHEMAS[name].names)
    assert all(a["p01"] <= a["p50"] <= a["p99"] for a in found["delta_strengths"])
    tokens = [
        row
        for row in found["delta_tokens"]
        if (row["kind"], row["layer"], row["completion"]) == ("acc", 0, study.answers[0].id)
    ]
    assert [row["position"] for row in tokens] == list(range(len(study.tokens[0].plain_ids))[-len(tokens) :])
    assert len(tokens) == len(study.answers[0].token_ids) + 1
    size = float(study.seen.acc[0, : len(tokens)].norm(dim=-1)[1])
    assert tokens[1]["strength"] == pytest.approx(size, rel=1e-5)


def test_the_report_draws_what_steers_and_says_what_it_is(tmp_path):
    data = write_results(tmp_path)
    places = dict.fromkeys(("faithfulness", "delta", "delta_strengths", "readability"), "faithfulness") | {
        "modules": "distill"
    }
    tables = {name: read_table(data / stage / f"{name}.parquet", name) for name, stage in places.items()}
    rows = shown(tables["faithfulness"])
    const = module_id("persona/pirate", SLUGS[0])
    assert {row["alpha"] for row in rows if row["method"] == const} == {1.0}  # chosen was 0, which shows nothing
    names, style = {slug: slug.upper() for slug in SLUGS}, dict.fromkeys(SLUGS, "m0")
    section = faithfulness(tables, names, style)
    assert section is not None
    assert [line.name for line in section["errors"][0].lines] == [
        "S-CONST-DIM-R",
        "A-PSR-MSE-QR",
        "prompt paraphrased (floor)",
    ]
    assert (
        section["errors"][0].lines[1].marks[2].title
        == "A-PSR-MSE-QR, alpha 1, layer 2: 0.25 (95 % interval 0.24 to 0.26)"
    )
    assert section["shares"][0].title == "gloomy, Δ_acc"
    assert section["readable"].head == ("", "layer 0", "layer 1", "layer 2")
    assert section["readable"].rows[1][1:] == tuple(f"{value}\n0.40 to 0.90" for value in ("0.50", "0.60", "0.70"))
    assert faithfulness({**tables, "faithfulness": []}, names, style) is None


def test_the_alpha_at_the_prompts_coherence_is_that_of_the_repetition_even_where_it_is_zero(tmp_path):
    rows = [
        {"module": "a", "seed": seed, "point": point, "alpha": alpha, "share": 0.5, "chosen": chosen}
        for seed, at_prompt in ((1, 0.0), (2, 0.5))
        for point, alpha, chosen in (
            ("Cp2", 3.0, True),
            ("Cp", at_prompt, True),
            ("Cp", 1.0, False),
            ("C80", 2.0, True),
        )
    ]
    write_table(tmp_path / "candidates.parquet", "candidates", rows)
    found = [candidate_rows(tmp_path, seed, "a") for seed in (1, 2)]
    assert [chosen_alpha(rows) for rows in found] == [0.0, 0.5]
    assert [shown_alpha(rows) for rows in found] == [2.0, 0.5]  # nothing is to be seen at 0
    assert shown_alpha([{"point": "HM", "alpha": 1.5, "chosen": True}]) == 1.5
