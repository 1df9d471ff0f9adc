"""Three benchmarks with two seeds through the real tasks at a tiny scale: what is fitted, asked, and figured out of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tasks.engine.gather import gather
from tasks.engine.scratch import Scratch

from psr.answers.pairs import sampling_seeds
from psr.fitting.methods import parse_method, trained
from psr.testbed.verifiers import follows, follows_loosely
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.shown import index
from tasks.shown.query import ask
from tasks.steps.complete import complete_attribute
from tasks.steps.distill import distill_module, gather_modules
from tasks.steps.extract import extract_activations
from tasks.steps.results import write_results
from tasks.steps.search import search_attribute
from tasks.steps.select import judge_completions, select_triplets
from tasks.steps.steer import steer_attribute
from tasks.tables.parquet import read_completions, read_pairs, read_table

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SEEDS = (5, 6)
METHODS = ("s-const-dim-r", "a-psr-mse-qr")
NAMES = {"persona": "pirate", "ifeval": "change_case:english_lowercase", "axbench": "0"}
CHOSEN = [
    SimpleNamespace(name=name, path=str(ROOT / "data/testbed" / name), attributes=(a,)) for name, a in NAMES.items()
]
SAMPLING = {"temperature": 1.0, "max_new_tokens": 96, "batch_size": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/mini with every table from pairs to results."""
    root = tmp_path_factory.mktemp("suite")
    place = {
        name: root / "data/mini" / name
        for name in ("complete", "select", "extract", "distill", "search", "steer", "judge", "results")
    }
    for folder in place.values():
        folder.mkdir(parents=True)
    model = ModelPlace(str(ROOT / "data/testbed/model"), "float32", "cpu", 1, False)
    attributes = attributes_of(CHOSEN)
    judges = judges_named("testbed", attributes)
    scratch = {name: Scratch(root / "scratch" / name) for name in place}
    gather.fn(
        [
            complete_attribute.fn(
                a, model, scratch["complete"], questions=6, instructions=1, samples=1, seed=1, **SAMPLING
            )
            for a in attributes
        ],
        place["complete"],
        ["pairs", "completions"],
    )
    judge_completions.fn(place["complete"], judges, scratch["select"], place["select"], "select")
    select_triplets.fn(place["complete"], place["select"], min_trait=0.5, min_coherence=0.5, limit=6)
    extract_activations.fn(
        place["complete"], place["select"], model, place["extract"], dtype="float32", shard_mb=64, batch_size=8
    )
    sources, told = (
        (place["complete"], place["select"], place["extract"]),
        {"preset": "fast", "epochs": 4, "batch_size": 2, "lr": 0.02},
    )
    parts = [
        distill_module.fn(a.key, method, seed, *sources, model, scratch["distill"], layer=3, settings=told)
        for a in attributes
        for method in map(parse_method, METHODS)
        for seed in (SEEDS if trained(method) else (None,))
    ]
    gather.fn(parts, place["distill"], ["modules", "curves"])
    gather_modules.fn(parts, place["distill"])
    grid = {"alphas": (0, 1), "alpha_max": 2, "refine": (1,), "factors": (0.5, 1.0), "resamples": 20}
    parts = [
        search_attribute.fn(
            a,
            seed,
            sampled,
            place["distill"],
            model,
            judges[a.benchmark],
            scratch["search"],
            questions=3,
            **grid,
            **SAMPLING,
        )
        for a in attributes
        for seed, sampled in sampling_seeds(SEEDS, 2, 1).items()
    ]
    gather.fn(parts, place["search"], ["pairs", "completions", "judgements", "candidates", "draws"])
    parts = [
        steer_attribute.fn(
            a,
            seed,
            sampled,
            place["distill"],
            place["search"],
            model,
            scratch["steer"],
            questions=4,
            strengths=1,
            with_prompt=("a-psr-mse-qr",),
            **SAMPLING,
        )
        for a in attributes
        for seed, sampled in sampling_seeds(SEEDS, 3, 2).items()
    ]
    gather.fn(parts, place["steer"], ["pairs", "completions", "strengths", "draws"])
    judge_completions.fn(place["steer"], judges, scratch["judge"], place["judge"], "judge")
    write_results.fn(
        *(place[name] for name in ("distill", "search", "steer", "judge", "results")), resamples=30, seed=4
    )
    return root / "data/mini"


def rows(data: Path, stage: str, name: str) -> list[dict[str, Any]]:
    return read_table(data / stage / f"{name}.parquet", name)


def test_what_no_seed_changes_is_fitted_once(data: Path) -> None:
    fitted = [(row["attribute"].split("/")[0], row["method"], row["seed"]) for row in rows(data, "distill", "modules")]
    assert sorted(fitted, key=str) == sorted(
        [(b, "s-const-dim-r", None) for b in NAMES] + [(b, "a-psr-mse-qr", s) for b in NAMES for s in SEEDS], key=str
    )
    folders = [row["folder"] for row in rows(data, "distill", "modules")]
    assert len(set(folders)) == len(folders)


def test_every_benchmark_has_a_row_a_method_and_seed_and_their_mean(data: Path) -> None:
    methods = {"plain", "prompt", *METHODS, "a-psr-mse-qr+prompt"}
    for name, main in (("headline", "ta_cp"), ("ifeval", "strict"), ("axbench", "overall")):
        per_seed, means = rows(data, "results", f"{name}_seeds"), rows(data, "results", name)
        assert sorted((row["method"], row["seed"]) for row in per_seed) == sorted(
            (m, s) for m in methods for s in SEEDS
        )
        for row in means:
            own = [one[main] for one in per_seed if one["method"] == row["method"]]
            assert row[main] == pytest.approx(np.mean(own))
            assert row[f"{main}_low"] - 1e-9 <= row[main] <= row[f"{main}_high"] + 1e-9
            assert (row["seeds"], row["n"], row["n_unscored"]) == (2, 8, 0)


def test_repetitions_share_no_answer_and_module_and_prompt_of_one_share_their_draws(data: Path) -> None:
    draws = rows(data, "steer", "draws")
    assert {(row["seed"], row["sampled"]) for row in draws} == {(5, 3), (5, 4), (6, 5), (6, 6)}
    database = index.rebuild(data.parents[1])
    asked = ask(
        database,
        "select method, list(distinct seed order by seed) from completions where stage = 'steer' "
        "and fit_seed = 5 group by method",
    )
    assert {method: tuple(seeds) for method, seeds in asked.rows} == dict.fromkeys(
        ("plain", "instructed", *METHODS, "a-psr-mse-qr+prompt"), (3, 4)
    )
    assert ask(
        database, "select count(*) from completions where stage in ('search', 'steer') and fit_seed is null"
    ).rows == ((0,),)


def test_format_instructions_are_figured_at_alpha_one_by_ifevals_own_verifier(data: Path) -> None:
    pairs = {pair.id: pair for pair in read_pairs(data / "steer/pairs.parquet")}
    for row in rows(data, "results", "ifeval_seeds"):
        label = {"plain": "plain", "prompt": "instructed"}.get(row["method"], row["module"])
        label += "+instructed" if row["method"].endswith("+prompt") else ""
        sampled = {d["sampled"] for d in rows(data, "steer", "draws") if d["seed"] == row["seed"]}
        texts = [
            c.text
            for c in read_completions(data / "steer/completions.parquet")
            if c.method == label and c.seed in sampled and pairs[c.pair].attribute == row["attribute"]
        ]
        assert len(texts) == 8
        assert row["strict"] == pytest.approx(
            100 * np.mean([follows(t, "change_case:english_lowercase", {}) for t in texts])
        )
        assert row["loose"] == pytest.approx(
            100 * np.mean([follows_loosely(t, "change_case:english_lowercase", {}) for t in texts])
        )
    alphas = {row["method"]: row["alpha"] for row in rows(data, "results", "ifeval")}
    assert alphas == {"plain": None, "prompt": None, **dict.fromkeys((*METHODS, "a-psr-mse-qr+prompt"), 1.0)}
    assert not [pair for pair in read_pairs(data / "search/pairs.parquet") if pair.attribute.startswith("ifeval")]


def test_a_concepts_figure_is_the_mean_harmonic_mean_at_the_factor_chosen_on_other_questions(data: Path) -> None:
    pairs = {
        stage: {p.question for p in read_pairs(data / stage / "pairs.parquet") if p.attribute.startswith("axbench")}
        for stage in ("complete", "search", "steer")
    }
    assert not pairs["search"] & pairs["steer"]
    assert not pairs["complete"] & (pairs["search"] | pairs["steer"])
    rated: dict[str, dict[str, float]] = {}
    for judgement in rows(data, "judge", "judgements"):
        rated.setdefault(judgement["completion"], {})[judgement["dimension"]] = judgement["value"]
    chosen = {
        (c["module"], c["seed"]): c["alpha"]
        for c in rows(data, "search", "candidates")
        if c["chosen"] and c["point"] == "HM"
    }
    sampled = {d["sampled"]: d["seed"] for d in rows(data, "steer", "draws")}
    for row in rows(data, "results", "axbench_seeds"):
        if row["method"] in METHODS:
            assert row["alpha"] == chosen[row["module"], row["seed"]]
            found = [
                rated[c.id]
                for c in read_completions(data / "steer/completions.parquet")
                if c.method == row["module"] and c.alpha == row["alpha"] and sampled[c.seed] == row["seed"]
            ]
            values = [3 / sum(1 / v for v in one.values()) if all(one.values()) else 0.0 for one in found]
            assert row["overall"] == pytest.approx(np.mean(values))
            assert row["concept"] == pytest.approx(np.mean([one["concept"] for one in found]))
