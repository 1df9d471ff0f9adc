"""A finished profile with invented judged answers, for tests of the claims: the true levels are set here.

Three traits (the prompt at 80, 98 and 80) and a format instruction (the prompt at 70), two seeds. The results are
computed by the real task.
"""

import shutil
from pathlib import Path

import numpy as np

from psr.fitting.methods import BY_SLUG
from psr.fitting.methods.named import method_named
from psr.types import Completion, Judgement, PromptPair, short_hash
from tasks.benchmarks.catalogue import BENCHMARKS, benchmark_named
from tasks.steps.results import write_results as results_of
from tasks.tables import parquet as tables
from tests.results_folder import MODEL, write_results

SEEDS = (1, 2)
QUESTIONS = 10
ALPHAS = (0.5, 1.0)
PROMPT = {"persona/gloomy": 80.0, "persona/pirate": 98.0, "persona/hedging": 80.0, "ifeval/no_comma": 70.0}
TRAIT = {
    "s-const-dim-r": 5.0,
    "s-const-mse-qr": 20.0,
    "s-psr-mse-qr": 50.0,
    "a-const-mse-qr": 60.0,
    "a-psr-mse-qr": 90.0,
}
WITH_PROMPT = {"s-psr-ll-r": 95.0}
COHERENCE: dict[str, float] = {}  # method -> another coherence than 95
JUDGE = "testbed"
LAYERS = 4
KNOWN = {name: benchmark_named(name) for name in BENCHMARKS}
DRAWN = {"resamples": 60, "seed": 4}


def module_id(attribute: str, slug: str, seed: int | None) -> str:
    return short_hash("module", attribute, slug, seed)


def methods_of(attribute: str) -> tuple[str, ...]:
    return tuple(TRAIT) if attribute.startswith("persona/") else tuple(WITH_PROMPT)


def write_claims_folder(root: Path, profile: str = "quick", without: tuple[str, ...] = ()) -> Path:
    """Write data/{profile} under `root`. without: methods to leave out."""
    data = write_results(root, profile)
    for folder in ("claims", "bench"):
        shutil.rmtree(data / folder)
    rows = write_judged(data, without)
    tables.write_curves(data / "distill/curves.parquet", {})
    tables.write_table(data / "search/candidates.parquet", "candidates", [])
    tables.write_table(data / "steer/strengths.parquet", "strengths", [])
    _write_faithfulness(data / "faithfulness", rows)
    results_of(*(data / name for name in ("distill", "search", "steer", "judge", "results")), KNOWN, **DRAWN)
    return data


def write_judged(data: Path, without: tuple[str, ...] = ()) -> list[dict[str, object]]:
    """Write the modules, what they answered to the search and evaluation questions, and the judgements. Returns the modules."""
    rows = [
        _module(attribute, slug, seed)
        for attribute in PROMPT
        for slug in methods_of(attribute)
        if slug not in without
        for seed in (SEEDS if method_named(slug).trained else (None,))
    ]
    tables.write_table(data / "distill/modules.parquet", "modules", rows)
    for stage, judged, question_set in (("search", "search", "search"), ("steer", "judge", "evaluate")):
        _write_answers(data / stage, data / judged, rows, question_set)
    return rows


def _module(attribute: str, slug: str, seed: int | None) -> dict[str, object]:
    method = BY_SLUG[slug]
    key = module_id(attribute, slug, seed)
    return {
        "id": key,
        "attribute": attribute,
        "method": slug,
        "scope": method.scope,
        "form": method.form,
        "objective": method.objective,
        "span": method.span,
        "layer": 1 if method.scope == "S" else None,
        "seed": seed,
        "triplets": 2,
        "folder": f"modules/{key}",
        "model": MODEL,
        "fits_likelihoods": method_named(slug).learning.fits_likelihoods,
    }


def _write_answers(folder: Path, judged: Path, modules: list[dict[str, object]], question_set: str) -> None:
    pairs = {a: [PromptPair(a, f"Question {i} ({question_set})?", "Do it.") for i in range(QUESTIONS)] for a in PROMPT}
    answers, judgements = [], []
    for attribute, asks in pairs.items():
        for run in SEEDS:
            for label, alpha, level, coherence in _labels(attribute, run, modules):
                for i, pair in enumerate(asks):
                    completion = Completion(
                        pair.id, label, alpha, 10 * run, MODEL, "t1", (5,), f"{label} {alpha} {run}", True
                    )
                    answers.append(completion)
                    judgements += _verdicts(completion, attribute, level, coherence, 100 * run + i)
    tables.write_pairs(
        folder / "pairs.parquet", [pair for asks in pairs.values() for pair in asks], question_set, "held_out"
    )
    tables.write_completions(folder / "completions.parquet", answers)
    tables.write_judgements(judged / "judgements.parquet", judgements)
    draws = [{"attribute": a, "seed": run, "sampled": 10 * run} for a in PROMPT for run in SEEDS]
    tables.write_table(folder / "draws.parquet", "draws", draws)


def _labels(attribute: str, run: int, modules: list[dict[str, object]]) -> list[tuple[str, float, float, float]]:
    """(label, alpha, true level, coherence) of everything answered with one seed."""
    labels = [("plain", 0.0, 2.0, 95.0), ("instructed", 0.0, PROMPT[attribute], 95.0)]
    for row in modules:
        if row["attribute"] == attribute and row["seed"] in (None, run):
            level = TRAIT.get(str(row["method"]), 30.0)
            coherence = COHERENCE.get(str(row["method"]), 95.0)
            labels += [(str(row["id"]), alpha, alpha * level, coherence) for alpha in ALPHAS]
            if row["method"] in WITH_PROMPT:
                labels.append((f"{row['id']}+instructed", 1.0, WITH_PROMPT[str(row["method"])], 95.0))
    return labels


def _verdicts(completion: Completion, attribute: str, level: float, coherence: float, seed: int) -> list[Judgement]:
    """Judgements of a completion: its level, noise shared by all answers to a question with one seed, and noise of its own.

    A judge of likelihoods has no ends, and rates the trait by words too: half as much.
    """
    offset = np.random.default_rng(int(completion.id[:8], 16)).normal(0, 1)
    beyond = level + np.random.default_rng(seed).normal(0, 2) + offset
    value = float(np.clip(beyond, 0, 100))
    values = {"trait": value} if attribute.startswith("persona/") else {"accuracy": value, "accuracy_loose": value}
    if JUDGE == "likelihood":
        values |= {"trait": beyond, "words": value / 2} if attribute.startswith("persona/") else {"effect": beyond}
    values["coherence"] = coherence
    return [Judgement(completion.id, JUDGE, "1", name, value, 100.0) for name, value in values.items()]


def _write_faithfulness(folder: Path, modules: list[dict[str, object]]) -> None:
    """Sums that leave a relative RMSE of `level` with a little noise, and the table of it as the stage writes it."""
    traits = [a for a in PROMPT if a.startswith("persona/")]
    pairs = {a: [PromptPair(a, f"Question {i}?", "Do it.") for i in range(QUESTIONS)] for a in traits}
    sums, errors = [], []
    for attribute in traits:
        for run in SEEDS:
            subjects = [
                ("paraphrase", 0.0, None),
                *(
                    (row["id"], 1.0, row)
                    for row in modules
                    if row["attribute"] == attribute and row["seed"] in (None, run)
                ),
            ]
            for method, alpha, row in subjects:
                for layer in range(LAYERS):
                    named = {"method": method, "seed": run, "alpha": alpha, "layer": layer}
                    level = 0.2 if row is None else _rmse(row, layer)
                    sums_of_run = _sums(pairs[attribute], level, int(short_hash(attribute, method, layer, run)[:8], 16))
                    rmse = float(
                        np.sqrt(
                            sum(one["squared_error"] for one in sums_of_run) / sum(one["energy"] for one in sums_of_run)
                        )
                    )
                    sums += [{**named, **one} for one in sums_of_run]
                    errors.append(
                        {
                            "attribute": attribute,
                            **named,
                            "chosen": row is None,
                            "relative_rmse": rmse,
                            "low": rmse,
                            "high": rmse,
                            "above_floor": rmse,
                            "above_floor_low": rmse,
                            "above_floor_high": rmse,
                            "n": QUESTIONS,
                        }
                    )
    floor = {
        (row["attribute"], row["seed"], row["layer"]): row["relative_rmse"]
        for row in errors
        if row["method"] == "paraphrase"
    }
    errors = [
        {**row, "above_floor": row["relative_rmse"] - floor[row["attribute"], row["seed"], row["layer"]]}
        for row in errors
    ]
    spread = [
        {**row, "seed": run}
        for row in tables.read_table(folder / "delta_strengths.parquet", "delta_strengths")
        for run in SEEDS
    ]
    tables.write_pairs(
        folder / "pairs.parquet", [pair for asks in pairs.values() for pair in asks], "evaluate", "held_out"
    )
    tables.write_table(folder / "faithfulness.parquet", "faithfulness", errors)
    tables.write_table(folder / "deviations.parquet", "deviations", sums)
    tables.write_table(folder / "delta_strengths.parquet", "delta_strengths", spread)


def _sums(pairs: list[PromptPair], level: float, seed: int) -> list[dict[str, object]]:
    """A relative RMSE of `level` on every question, but for a little noise."""
    noise = np.random.default_rng(seed).uniform(0.95, 1.05, len(pairs))
    return [
        {"pair": pair.id, "squared_error": 4 * (level * x) ** 2, "energy": 4.0, "tokens": 7}
        for pair, x in zip(pairs, noise, strict=True)
    ]


def _rmse(row: dict[str, object], layer: int) -> float:
    """A-PSR falls below the floor in the upper half; S-Const is above 1 at its own layer and below later."""
    if row["method"] == "a-psr-mse-qr":
        return 0.5 if layer < 2 else 0.1
    return 1.0 if layer < 1 else 1.4 if layer == 1 else 0.8
