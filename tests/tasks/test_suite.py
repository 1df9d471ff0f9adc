"""Three benchmarks with two seeds through the real tasks at a tiny scale: what is fitted, asked, and figured out of it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import flows.distill
from flows.params import Profile
from psr.testbed.verifiers import follows, follows_loosely
from tasks.engine.cells import HOME, Cells, sizes
from tasks.engine.clusters import Chosen, started
from tasks.engine.context import StepContext
from tasks.engine.runners import Calls, Runner, conditions, serial
from tasks.shown import index
from tasks.shown.query import ask
from tasks.tables.parquet import read_completions, read_pairs, read_table

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SEEDS = (5, 6)
METHODS = ("s-const-dim-r", "a-psr-mse-qr")
NAMES = {"persona": "pirate", "ifeval": "change_case:english_lowercase", "axbench": "0"}
SETTINGS = {
    "model": {"path": str(ROOT / "data/testbed/model"), "threads": 1},
    "benchmarks": [{"name": name, "path": str(ROOT / "data/testbed" / name), "attributes": [a]} for name, a in NAMES.items()],
    "judge": {"name": "testbed"},
    "methods": METHODS,
    "seeds": SEEDS,
    "sampling": {"temperature": 1.0, "max_new_tokens": 96},
    "complete": {"questions": 6, "instructions": 1, "samples": 1, "seed": 1, "batch_size": 64},
    "select": {"min_trait": 0.5, "min_coherence": 0.5, "limit": 6},
    "extract": {"dtype": "float32", "shard_mb": 64, "batch_size": 8},
    "distill": {"preset": "fast", "epochs": 4, "batch_size": 2, "lr": 0.02, "layer": 3},
    "search": {"questions": 3, "samples": 1, "alphas": (0, 1), "alpha_max": 2, "refine": (1,), "factors": (0.5, 1.0),
               "resamples": 20, "seed": 2, "batch_size": 64},
    "steer": {"questions": 4, "samples": 2, "seed": 3, "batch_size": 64, "strengths": 1, "with_prompt": ("a-psr-mse-qr",)},
    "faithfulness": {"questions": 2, "triplets": 4, "seed": 90, "resamples": 20, "strengths": 1, "batch_size": 8},
    "results": {"resamples": 30, "seed": 4},
    "report": {"title": "mini"},
}  # fmt: skip
STEPS = ("complete", "select", "extract", "distill", "search", "steer", "judge", "results")


def run(root: Path, settings: dict[str, Any], steps: tuple[str, ...] = STEPS, runner: Runner | None = None) -> Path:
    """The real flows, one after the other, as `dvc repro` runs them."""
    profile = Profile.model_validate(settings)
    deps = tuple(f"data/mini/{name}" for name in STEPS)
    for name in steps:
        body, out = getattr(import_module(f"flows.{name}"), name), root / "data/mini" / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        context = StepContext(root, "mini", name, out, deps, Cells(root / HOME, "code"), runner or elsewhere)
        body(context, **{section: getattr(profile, section) for section in list(signature(body).parameters)[1:]})
    return root / "data/mini"


def elsewhere(work: Callable[..., Any], calls: Calls) -> list[Any]:
    """As on another machine: what is to be done and its arguments arrive as bytes, and they are few."""
    sent = {name: pickle.dumps((work, arguments)) for name, arguments in calls.items()}
    assert all(len(data) < 100_000 for data in sent.values())
    return [received(**arguments) for received, arguments in map(pickle.loads, sent.values())]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/mini with every table from pairs to results."""
    return run(tmp_path_factory.mktemp("suite"), SETTINGS)


def rows(data: Path, stage: str, name: str) -> list[dict[str, Any]]:
    return read_table(data / stage / f"{name}.parquet", name)


def test_one_more_method_and_one_more_seed_make_their_own_cells_and_no_other(data: Path) -> None:
    root = data.parents[1]
    tables = {path: path.read_bytes() for path in sorted(data.rglob("*.parquet"))}
    before = sizes(root)
    run(root, SETTINGS)
    assert sizes(root) == before
    assert {path: path.read_bytes() for path in sorted(data.rglob("*.parquet"))} == tables
    try:
        run(root, {**SETTINGS, "methods": (*METHODS, "s-psr-mse-qr")})
        more = sizes(root)
        assert more["modules"][0] - before["modules"][0] == len(SEEDS) * len(NAMES)
        assert more["search"][0] - before["search"][0] == len(SEEDS) * len(NAMES)
        assert more["steer"][0] - before["steer"][0] == len(SEEDS) * len(NAMES)
        assert (more["complete"], more["extract"]) == (before["complete"], before["extract"])
        run(root, {**SETTINGS, "methods": (*METHODS, "s-psr-mse-qr"), "seeds": (*SEEDS, 7)})
        assert sizes(root)["modules"][0] - more["modules"][0] == 2 * len(NAMES)  # trained methods alone have seeds
    finally:
        run(root, SETTINGS)
    assert {path: path.read_bytes() for path in sorted(data.rglob("*.parquet"))} == tables


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_two_worker_processes_write_the_same_bytes_as_one(data: Path, tmp_path: Path, kind: str) -> None:
    with started(Chosen(kind, None, 2), conditions(tmp_path, ()), threads=1, gpu=False) as workers:
        run(tmp_path, SETTINGS, runner=workers.runner(serial))
    one, two = (
        {file.relative_to(root).as_posix(): file.read_bytes() for file in (root / "data").rglob("*") if file.is_file()}
        for root in (data.parents[1], tmp_path)
    )
    assert "data/mini/steer/completions.parquet" in one
    assert one == two


def test_modules_fitted_jointly_are_those_that_are_fitted_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.steps import distill

    alone = data.parents[1] / "alone"
    shutil.copytree(data, alone / "data/mini")
    monkeypatch.setattr(flows.distill, "joint_groups", lambda members, *_: [[member] for member in members])
    monkeypatch.setattr(distill, "_jointly", None)
    run(alone, SETTINGS, ("distill",))
    files = sorted((data / "distill").rglob("*.safetensors"))
    assert len(files) == len(NAMES) * (1 + len(SEEDS))
    for file in files:
        jointly, single = load_file(file), load_file(alone / file.relative_to(data.parents[1]))
        for name, tensor in single.items():
            assert torch.allclose(jointly[name], tensor, rtol=1e-3, atol=1e-5), (file, name)


def test_what_no_seed_changes_is_fitted_once(data: Path) -> None:
    fitted = [(row["attribute"].split("/")[0], row["method"], row["seed"]) for row in rows(data, "distill", "modules")]
    assert sorted(fitted, key=str) == sorted(
        [(b, "s-const-dim-r", None) for b in NAMES] + [(b, "a-psr-mse-qr", s) for b in NAMES for s in SEEDS], key=str
    )
    folders = [row["folder"] for row in rows(data, "distill", "modules")]
    assert len(set(folders)) == len(folders)


def of_figure(data: Path, table: str, figure: str) -> list[dict[str, Any]]:
    return [row for row in rows(data, "results", table) if row["figure"] == figure]


def test_every_benchmark_has_a_row_a_method_and_seed_and_their_mean(data: Path) -> None:
    methods = {"plain", "prompt", *METHODS, "a-psr-mse-qr+prompt"}
    for main in ("ta_cp", "strict", "overall"):
        per_seed, means = of_figure(data, "figures_seeds", main), of_figure(data, "figures", main)
        assert sorted((row["method"], row["seed"]) for row in per_seed) == sorted(
            (m, s) for m in methods for s in SEEDS
        )
        for row in means:
            own = [one["value"] for one in per_seed if one["method"] == row["method"]]
            assert row["value"] == pytest.approx(np.mean(own))
            assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9
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
    loose = {(row["method"], row["seed"]): row["value"] for row in of_figure(data, "figures_seeds", "loose")}
    for row in of_figure(data, "figures_seeds", "strict"):
        label = {"plain": "plain", "prompt": "instructed"}.get(row["method"], row["module"])
        label += "+instructed" if row["method"].endswith("+prompt") else ""
        sampled = {d["sampled"] for d in rows(data, "steer", "draws") if d["seed"] == row["seed"]}
        texts = [
            c.text
            for c in read_completions(data / "steer/completions.parquet")
            if c.method == label and c.seed in sampled and pairs[c.pair].attribute == row["attribute"]
        ]
        assert len(texts) == 8
        assert row["value"] == pytest.approx(
            100 * np.mean([follows(t, "change_case:english_lowercase", {}) for t in texts])
        )
        assert loose[row["method"], row["seed"]] == pytest.approx(
            100 * np.mean([follows_loosely(t, "change_case:english_lowercase", {}) for t in texts])
        )
    alphas = {row["method"]: row["alpha"] for row in of_figure(data, "figures", "strict")}
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
    concepts = {(row["method"], row["seed"]): row["value"] for row in of_figure(data, "figures_seeds", "concept")}
    for row in of_figure(data, "figures_seeds", "overall"):
        if row["method"] in METHODS:
            assert row["alpha"] == chosen[row["module"], row["seed"]]
            found = [
                rated[c.id]
                for c in read_completions(data / "steer/completions.parquet")
                if c.method == row["module"] and c.alpha == row["alpha"] and sampled[c.seed] == row["seed"]
            ]
            values = [3 / sum(1 / v for v in one.values()) if all(one.values()) else 0.0 for one in found]
            assert row["value"] == pytest.approx(np.mean(values))
            assert concepts[row["method"], row["seed"]] == pytest.approx(np.mean([one["concept"] for one in found]))
