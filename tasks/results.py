"""From judgements to the headline table: trait alignment at a matched coherence, with intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.alpha_search import Scores
from psr.bootstrap import Figure, matched, plain_mean
from psr.methods import parse_method
from psr.types import INSTRUCTED, PLAIN, Completion, PromptPair
from tasks.modules import module_rows
from tasks.scores import Values, by_question, scores_of, values_of
from tasks.tables import read_completions, read_judgements, read_pairs, read_table, write_table

UNSTEERED = {PLAIN: "plain", INSTRUCTED: "prompt"}


@dataclass(frozen=True)
class Side:
    """One set of questions of one attribute with everything answered and judged there."""

    pairs: Sequence[PromptPair]
    completions: Sequence[Completion]
    values: Values

    def of(self, method: str) -> list[Completion]:
        return [c for c in self.completions if c.method == method]

    def scores(self, module: str) -> Scores:
        """A module's scores; its alpha 0 are the plain completions."""
        return scores_of([*self.of(PLAIN), *self.of(module)], self.values, self.pairs)

    def mean(self, method: str, dimension: str) -> Any:
        return by_question(self.of(method), self.values, dimension, self.pairs)


@task(cache_policy=NO_CACHE)
def write_results(
    distill: Path, search: Path, steer: Path, judge: Path, out: Path, *, resamples: int, seed: int
) -> None:
    """Write out/headline.parquet, out/headline.json (the same, readable) and out/curve.parquet (trait against coherence)."""
    headline: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    searched, evaluated = sides(search, search), sides(steer, judge)
    for attribute in sorted(searched):
        modules = module_rows(distill, attribute)
        looked, taken = searched[attribute], evaluated[attribute]
        headline += [unsteered_row(attribute, method, taken, resamples, seed) for method in (PLAIN, INSTRUCTED)]
        headline += [module_row(row, looked, taken, resamples, seed) for row in modules]
        curve += [point for row in modules for point in curve_rows(row, looked.scores(row["id"]))]
        curve += [unsteered_point(attribute, method, looked) for method in (PLAIN, INSTRUCTED)]
    write_table(out / "headline.parquet", "headline", headline)
    write_table(out / "curve.parquet", "curve", curve)


@task(cache_policy=NO_CACHE)
def write_metrics(results: Path, out: Path) -> None:
    """The headline as JSON beside the lock file, rounded to what its intervals can carry: a metric for DVC and for diffs."""
    rows = read_table(results / "headline.parquet", "headline")
    keep = ("ta_cp", "ta_cp_low", "ta_cp_high", "coherence_cp", "alpha_cp", "ta_c80", "ta_c80_low", "ta_c80_high",
            "coherence_c80", "alpha_c80", "n", "n_unscored")
    metrics: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = {name: round(row[name], 2) if isinstance(row[name], float) else row[name] for name in ("name", *keep)}
        metrics.setdefault(row["attribute"], {})[row["method"]] = values
    out.write_text(json.dumps(metrics, indent=1) + "\n")


def sides(answered: Path, judged: Path) -> dict[str, Side]:
    """attribute -> its side, from pairs and completions in `answered` and judgements in `judged`."""
    values = values_of(read_judgements(judged / "judgements.parquet"))
    pairs: dict[str, list[PromptPair]] = {}
    home: dict[str, str] = {}
    for pair in read_pairs(answered / "pairs.parquet"):
        pairs.setdefault(pair.attribute, []).append(pair)
        home[pair.id] = pair.attribute
    completions: dict[str, list[Completion]] = {attribute: [] for attribute in pairs}
    for completion in read_completions(answered / "completions.parquet"):
        completions[home[completion.pair]].append(completion)
    return {attribute: Side(pairs[attribute], completions[attribute], values) for attribute in pairs}


def unsteered_row(attribute: str, method: str, side: Side, resamples: int, seed: int) -> dict[str, Any]:
    """The plain model or the prompt: trait at its own coherence, nothing at coherence 80."""
    figure = plain_mean(side.mean(method, "trait"), side.mean(method, "coherence"), resamples=resamples, seed=seed)
    name = UNSTEERED[method]
    empty = dict.fromkeys(("scope", "form", "objective", "span", "layer", "module"))
    return {**_place(attribute, side.completions[0].model), "method": name, "name": name, **empty,
            **_point("cp", figure), **_point("c80", None), "n": figure.n, "n_unscored": figure.n_unscored}


def module_row(row: Mapping[str, Any], search: Side, evaluation: Side, resamples: int, seed: int) -> dict[str, Any]:
    """A module at the prompt's coherence and at coherence 80; alpha from the search questions, figures from the others."""
    looked, taken = search.scores(row["id"]), evaluation.scores(row["id"])
    prompt = search.mean(INSTRUCTED, "coherence")
    cp, c80 = (matched(looked, prompt, taken, point, resamples=resamples, seed=seed) for point in ("Cp", "C80"))
    method = parse_method(row["method"])
    facts = {name: row[name] for name in ("method", "scope", "form", "objective", "span", "layer")}
    return {**_place(row["attribute"], row["model"]), **facts, "name": method.name, "module": row["id"],
            **_point("cp", cp), **_point("c80", c80), "n": cp.n, "n_unscored": cp.n_unscored}


def _place(attribute: str, model: str) -> dict[str, str]:
    return {"benchmark": attribute.partition("/")[0], "model": model, "attribute": attribute}


def _point(suffix: str, figure: Figure | None) -> dict[str, Any]:
    """The columns of one point of comparison; all empty without a figure."""
    names = ("alpha", "ta", "ta_low", "ta_high", "coherence", "reached")
    values: Iterable[Any] = [None] * len(names)
    if figure is not None:
        values = (figure.alpha, figure.value, figure.low, figure.high, figure.coherence, figure.reached)
    columns = {"ta_low": f"ta_{suffix}_low", "ta_high": f"ta_{suffix}_high"}
    return {columns.get(name, f"{name}_{suffix}"): _known(value) for name, value in zip(names, values, strict=True)}


def curve_rows(row: Mapping[str, Any], scores: Scores) -> list[dict[str, Any]]:
    """Trait and coherence at every alpha that was searched; n counts the questions with a trait score."""
    return [
        {"attribute": row["attribute"], "method": row["method"], "module": row["id"], "alpha": alpha,
         **_means(scores.trait[i], scores.coherence[i])}
        for i, alpha in enumerate(scores.alphas)
    ]


def unsteered_point(attribute: str, method: str, side: Side) -> dict[str, Any]:
    """Where the plain model or the prompt lies among the curves."""
    return {"attribute": attribute, "method": UNSTEERED[method], "module": None, "alpha": None,
            **_means(side.mean(method, "trait"), side.mean(method, "coherence"))}


def _means(trait: Any, coherence: Any) -> dict[str, Any]:
    scored = ~np.isnan(trait)
    mean = [float(np.mean(x[~np.isnan(x)])) if (~np.isnan(x)).any() else None for x in (trait, coherence)]
    return {"trait": mean[0], "coherence": mean[1], "n": int(scored.sum())}


def _known(value: Any) -> Any:
    """nan is how arrays say "not known"; tables say it with an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value
