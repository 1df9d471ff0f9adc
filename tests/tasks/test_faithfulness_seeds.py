"""Faithfulness over seeds: each repetition has its own answers, modules and alphas, and the report shows their mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import flows.faithfulness
from flows.params import load
from psr.answers.completions import Ask, complete
from psr.answers.pairs import fit_pairs
from psr.answers.sampling import Sampling
from psr.lm.loading import load_model
from psr.steering.module import SteeringModule, save_module
from psr.types import PARAPHRASE, Attribute, Triplet
from tasks.asking.answers import Answerer
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import load_attributes
from tasks.engine.cells import Cells
from tasks.figures.delta import read_rows, share_rows, strength_rows, token_rows
from tasks.figures.study import study_of
from tasks.shown import index
from tasks.shown.query import ask
from tasks.shown.report_faithfulness import faithfulness, over_seeds
from tasks.steps.faithfulness import (
    TABLES,
    Measured,
    deviation_rows,
    measure_module,
    measure_prompt,
    module_runs,
    paraphrase_errors,
)
from tasks.tables.gather import gather
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import (
    read_completions,
    read_pairs,
    read_table,
    write_completions,
    write_pairs,
    write_table,
    write_triplets,
)

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 2, False)
SAMPLED = {5: 30, 6: 31}  # fit seed -> sampling seed
ALPHAS = {("five", 5): 0.5, ("six", 6): 2.0, ("always", 5): 0.5, ("always", 6): 0.75}
MEASURED = ("faithfulness", "deviations", "delta", "delta_strengths", "delta_tokens", "readability")


@pytest.fixture(scope="module")
def attribute() -> Attribute:
    return load_attributes("persona", ROOT / "data/testbed/persona", ["pirate"])[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, attribute: Attribute) -> Path:
    """data/mini: triplets, a module of each of two seeds and one of none, their alphas, and faithfulness over both seeds."""
    root = tmp_path_factory.mktemp("seeds")
    data = root / "data/mini"
    torch.set_num_threads(2)
    lm = load_model(MODEL.path)
    asked = fit_pairs(attribute, 4, 1)
    made = complete(lm, [Ask(pair, "instructed", 1) for pair in asked], Sampling(12, 1.0))
    write_pairs(data / "complete/pairs.parquet", asked, "fit", "fit")
    write_completions(data / "complete/completions.parquet", made)
    write_triplets(
        data / "select/triplets.parquet", [Triplet(pair, c, 1.0, 1.0) for pair, c in zip(asked, made, strict=True)]
    )
    _write_modules(data / "distill", attribute, lm.fingerprint)
    write_table(
        data / "search/candidates.parquet",
        "candidates",
        [
            {"module": module, "seed": seed, "point": "Cp", "alpha": alpha, "share": 1.0, "chosen": True}
            for (module, seed), alpha in ALPHAS.items()
        ],
    )
    gather([cell for seed in SAMPLED for cell in measured(data, attribute, seed)], data / "faithfulness", TABLES)
    return data


def _write_modules(distill: Path, attribute: Attribute, model: str) -> None:
    rows = []
    for name, seed, size in (("five", 5, 0.05), ("six", 6, 0.1), ("always", None, 0.02)):
        method = "s-const-dim-r" if seed is None else "s-const-mse-qr"
        module = SteeringModule(name, "Const", (3,), "QR", model, {"z": torch.full((1, 128), size)}, {"method": method})
        save_module(module, distill / name)
        rows.append(
            {
                "id": name,
                "attribute": attribute.key,
                "method": method,
                "scope": "S",
                "form": "Const",
                "objective": "MSE",
                "span": "QR",
                "layer": 3,
                "seed": seed,
                "triplets": 4,
                "folder": name,
                "model": model,
                "fits_likelihoods": False,
            }
        )
    write_table(distill / "modules.parquet", "modules", rows)


def measured(data: Path, attribute: Attribute, seed: int, cells: str = "cells") -> list[Path]:
    """The cells of one repetition: the prompt's, then a module's each."""
    answerer = Answerer(MODEL, Cells(data / ".." / cells, "code"), 1.0, 12, 8)
    one = Measured(attribute, seed, SAMPLED[seed], answerer, questions=2, resamples=20, drawn=30)
    made = [measure_prompt(one, data / "complete", data / "select", triplets=4, strengths=1)]
    rows = rows_of_seed(data / "distill", attribute.key, seed)
    return made + [measure_module(one, data / "distill" / row["folder"], data / "search") for row in rows]


def rows_of(data: Path, table: str, seed: int | None = None) -> list[dict[str, Any]]:
    return [row for row in read_table(data / f"faithfulness/{table}.parquet", table) if seed in (None, row["seed"])]


def test_each_seed_has_answers_of_its_own_to_the_same_questions(data: Path) -> None:
    answers = {
        seed: [c for c in read_completions(data / "faithfulness/completions.parquet") if c.seed == sampled]
        for seed, sampled in SAMPLED.items()
    }
    assert (
        [c.pair for c in answers[5]]
        == [c.pair for c in answers[6]]
        == [p.id for p in read_pairs(data / "faithfulness/pairs.parquet")]
    )
    assert [c.text for c in answers[5]] != [c.text for c in answers[6]]
    assert {row["completion"] for row in rows_of(data, "delta_tokens", 6)} == {answers[6][0].id}
    for table, column in (("delta", "energy_share"), ("delta_strengths", "p50"), ("readability", "r_squared")):
        first, second = ([row[column] for row in rows_of(data, table, seed)] for seed in SAMPLED)
        assert len(first) == len(second) > 0
        assert first != second


def test_each_seed_measures_its_modules_and_those_of_none_at_its_own_alphas(data: Path) -> None:
    for seed, own in ((5, "five"), (6, "six")):
        rows = rows_of(data, "faithfulness", seed)
        for table in ("faithfulness", "deviations"):
            assert {row["method"] for row in rows_of(data, table, seed)} == {PARAPHRASE, own, "always"}
        for module in (own, "always"):
            assert {row["alpha"] for row in rows if row["method"] == module and row["chosen"]} == {ALPHAS[module, seed]}
            assert {row["alpha"] for row in rows if row["method"] == module} == {1.0, ALPHAS[module, seed]}
    always = [
        [
            row["relative_rmse"]
            for row in rows_of(data, "faithfulness", seed)
            if (row["method"], row["alpha"]) == ("always", 1)
        ]
        for seed in SAMPLED
    ]
    assert always[0][3:] != always[1][3:]  # the same module, on other answers


@pytest.mark.parametrize("seed", SAMPLED)
def test_a_seeds_rows_are_those_of_its_answers_alone_and_say_the_seed(
    data: Path, attribute: Attribute, seed: int
) -> None:
    """As they were measured with one seed: the figures out of one study, but for the column."""
    lm = load_model(MODEL.path)
    pairs = read_pairs(data / "faithfulness/pairs.parquet")
    answers = [c for c in read_completions(data / "faithfulness/completions.parquet") if c.seed == SAMPLED[seed]]
    study = study_of(attribute, lm, pairs, answers, 20, 30)
    fitting = read_pairs(data / "complete/pairs.parquet"), read_completions(data / "complete/completions.parquet")
    triplets = [Triplet(pair, c, 1.0, 1.0) for pair, c in zip(*fitting, strict=True)]
    own = "five" if seed == 5 else "six"
    modules = [
        SteeringModule(name, "Const", (3,), "QR", lm.fingerprint, {"z": torch.full((1, 128), size)})
        for name, size in ((own, 0.05 if seed == 5 else 0.1), ("always", 0.02))
    ]
    floor = paraphrase_errors(study)
    runs = [run for module in modules for run in module_runs(study, module, ALPHAS[module.id, seed])]
    alone = {
        **deviation_rows(study, [(PARAPHRASE, 0.0, True, floor), *runs], floor),
        "delta": share_rows(study),
        "delta_strengths": strength_rows(study),
        "delta_tokens": token_rows(study, 1),
        "readability": read_rows(study, triplets),
    }
    assert set(alone) == set(MEASURED)
    for table, rows in alone.items():
        write_table(data / f"../alone/{table}.parquet", table, [{**row, "seed": seed} for row in rows])
        assert read_table(data / f"../alone/{table}.parquet", table) == rows_of(data, table, seed), table


def test_a_repetition_measured_alone_is_what_it_is_beside_others(data: Path, attribute: Attribute) -> None:
    gather(measured(data, attribute, 5, "other"), data / "../other", MEASURED)
    for table in MEASURED:
        assert read_table(data / f"../other/{table}.parquet", table) == rows_of(data, table, 5)


def test_the_index_tells_repetitions_apart(data: Path) -> None:
    database = index.rebuild(data.parents[1])
    for view in MEASURED:
        assert ask(database, f"select distinct seed from {view} order by all").rows == ((5,), (6,)), view
    assert ask(
        database, "select distinct seed, fit_seed from completions where stage = 'faithfulness' order by all"
    ).rows == ((30, 5), (31, 6))


def test_the_flow_gives_every_seed_its_own_sampling_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.faithfulness, "gather", lambda *_: None)
    monkeypatch.setattr(
        flows.faithfulness,
        "attributes_of",
        lambda _: [Attribute("x", name, ("i",), ("h",), ("q",), ("s",), ("e",), "r") for name in "ab"],
    )
    monkeypatch.setattr(flows.faithfulness, "rows_of_seed", lambda *_: [])
    settings = load(ROOT, "full")
    sections = {name: getattr(settings, name) for name in ("model", "benchmarks", "sampling", "faithfulness")}
    calls: list[Measured] = []
    context = SimpleNamespace(output_of=lambda name: name, cells=Cells(Path(), "code"), out=None)
    context.map = lambda _, named: calls.extend(call["measured"] for call in named.values()) or []
    flows.faithfulness.faithfulness(context, seeds=(7, 9), **sections)
    assert list(dict.fromkeys((one.attribute.name, one.seed, one.sampled, one.drawn) for one in calls)) == [
        ("a", 7, 1001, 1001), ("a", 9, 1002, 1001), ("b", 7, 1001, 1001), ("b", 9, 1002, 1001)
    ]  # fmt: skip


def test_the_report_averages_over_seeds_and_shows_the_widest_ends(data: Path) -> None:
    tables = {name: rows_of(data, name) for name in MEASURED}
    tables["modules"] = read_table(data / "distill/modules.parquet", "modules")
    names = {"s-const-mse-qr": "S-Const MSE·QR", "s-const-dim-r": "S-Const DiM·R"}
    section = faithfulness(tables, names, dict.fromkeys(names, "m0"))
    assert section is not None
    assert (section["n"], section["seeds"]) == (4, 2)
    fitted = next(line for line in section["errors"][0].lines if line.name == "S-Const MSE·QR")
    pair = [
        row
        for row in tables["faithfulness"]
        if row["chosen"] and row["method"] in ("five", "six") and row["layer"] == 4
    ]
    value, low, high = (
        sum(row["relative_rmse"] for row in pair) / 2,
        min(r["low"] for r in pair),
        max(r["high"] for r in pair),
    )
    assert fitted.marks[4].title == (
        f"S-Const MSE·QR, alpha 1.25, layer 4: {value:.3g} (95 % intervals of 2 seeds: {low:.3g} to {high:.3g})"
    )
    assert len(fitted.marks) == 6


def test_with_one_seed_a_figure_is_what_it_was(data: Path) -> None:
    for table in ("delta", "delta_strengths", "readability"):
        rows = rows_of(data, table, 5)
        merged = over_seeds(table, rows)
        assert len(merged) == len(rows)
        for after in merged:
            assert after.pop("seeds") == 1
            assert any(after.items() <= before.items() for before in rows)


def test_what_is_not_known_of_one_seed_is_left_out(data: Path) -> None:
    first, second = rows_of(data, "delta", 5)[0], rows_of(data, "delta", 6)[0]
    empty = {**second, "energy_share": None, "low": None, "high": None}
    found = over_seeds("delta", [first, empty])[0]
    assert (found["energy_share"], found["low"], found["high"]) == (first["energy_share"], first["low"], first["high"])
    nothing = over_seeds("delta", [{**first, "energy_share": None, "low": None, "high": None}, empty])[0]
    assert (nothing["energy_share"], nothing["low"], nothing["seeds"]) == (None, None, 2)
