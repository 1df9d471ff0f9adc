"""From judgements to each benchmark's table: the paper's own figures, with intervals, per seed and over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import Figure, matched, plain_mean
from psr.types import INSTRUCTED, PLAIN
from tasks.figures.entries import (
    UNSTEERED,
    Columns,
    Entry,
    Figures,
    known,
    mean_rows,
    module_facts,
    seed_rows,
    unsteered_facts,
)
from tasks.figures.sides import WITH_PROMPT, Side, sides
from tasks.figures.suite import axbench_columns, axbench_entries, ifeval_columns, ifeval_entries
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import read_table, write_table

Row = dict[str, Any]


def write_results(
    distill: Path, search: Path, steer: Path, judge: Path, out: Path, *, resamples: int, seed: int
) -> None:
    """Write every benchmark's table, over seeds and seed by seed ({table}_seeds), and persona's trait against coherence.

    The table of persona is called `headline`. What a profile does not measure is a table without rows.
    """
    entries: dict[str, list[Entry]] = {name: [] for name in TABLES}
    curve: list[Row] = []
    searched, evaluated = sides(search, search), sides(steer, judge)
    for (attribute, run), taken in sorted(evaluated.items(), key=lambda item: item[0]):
        benchmark = attribute.partition("/")[0]
        modules, looked = rows_of_seed(distill, attribute, run), searched[attribute, run]
        entries[benchmark] += TABLES[benchmark].entries(attribute, run, modules, looked, taken, resamples, seed)
        if benchmark == "persona":
            curve += curve_points(attribute, run, modules, looked)
    for benchmark, table in TABLES.items():
        write_table(out / f"{table.name}.parquet", table.name, mean_rows(entries[benchmark], table.columns))
        write_table(
            out / f"{table.name}_seeds.parquet", f"{table.name}_seeds", seed_rows(entries[benchmark], table.columns)
        )
    write_table(out / "curve.parquet", "curve", curve)


def write_metrics(results: Path, out: Path) -> None:
    """The headline as JSON beside the lock file, rounded to what its intervals can carry: a metric for DVC and for diffs."""
    rows = read_table(results / "headline.parquet", "headline")
    keep = (
        "ta_cp",
        "ta_cp_low",
        "ta_cp_high",
        "coherence_cp",
        "alpha_cp",
        "ta_c80",
        "ta_c80_low",
        "ta_c80_high",
        "coherence_c80",
        "alpha_c80",
        "n",
        "n_unscored",
    )
    metrics: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = {name: round(row[name], 2) if isinstance(row[name], float) else row[name] for name in ("name", *keep)}
        metrics.setdefault(row["attribute"], {})[row["method"]] = values
    out.write_text(json.dumps(metrics, indent=1) + "\n")


def persona_entries(
    attribute: str, run: int, modules: Iterable[Row], search: Side, evaluation: Side, resamples: int, seed: int
) -> Iterator[Entry]:
    """One repetition of a trait: plain, prompt, every module at matched coherence, and at alpha 1 on top of the prompt.

    alpha is chosen on the search questions and the figures are of the others. Figures keep their resampled values: two
    methods of one seed, or of all seeds, can be compared by psr.evaluation.bootstrap.paired.
    """
    told = {"resamples": resamples, "seed": seed}
    model = evaluation.completions[0].model
    for method in (PLAIN, INSTRUCTED):
        figure = plain_mean(evaluation.mean(method, "trait"), evaluation.mean(method, "coherence"), **told)
        yield Entry(unsteered_facts(attribute, model, method), run, {"cp": figure, "c80": None})
    prompt = search.mean(INSTRUCTED, "coherence")
    for row in modules:
        looked, taken = search.scores(row["id"]), evaluation.scores(row["id"])
        cp, c80 = (matched(looked, prompt, taken, point, **told) for point in ("Cp", "C80"))  # type: ignore[arg-type]
        yield Entry(module_facts(row), run, {"cp": cp, "c80": c80})
        label = row["id"] + WITH_PROMPT
        if evaluation.of(label):
            figure = plain_mean(evaluation.mean(label, "trait"), evaluation.mean(label, "coherence"), **told)
            yield Entry(module_facts(row, with_prompt=True), run, {"cp": replace(figure, alpha=1.0), "c80": None})


def headline_columns(figures: Figures) -> Row:
    """The columns of both points of comparison, and how many evaluation answers were scored."""
    cp = figures["cp"]
    counted = {"n": cp.n, "n_unscored": cp.n_unscored} if cp is not None else {"n": 0, "n_unscored": 0}
    return {**_point("cp", cp), **_point("c80", figures["c80"]), **counted}


def _point(suffix: str, figure: Figure | None) -> Row:
    """The columns of one point of comparison; all empty without a figure."""
    names = ("alpha", "ta", "ta_low", "ta_high", "coherence", "reached")
    values: Iterable[Any] = [None] * len(names)
    if figure is not None:
        values = (figure.alpha, figure.value, figure.low, figure.high, figure.coherence, figure.reached)
    columns = {"ta_low": f"ta_{suffix}_low", "ta_high": f"ta_{suffix}_high"}
    return {columns.get(name, f"{name}_{suffix}"): known(value) for name, value in zip(names, values, strict=True)}


def curve_points(attribute: str, run: int, modules: Iterable[Row], side: Side) -> Iterator[Row]:
    """Every module's curve on the search questions, and where the plain model and the prompt lie among them."""
    for row in modules:
        yield from curve_rows(row, run, side.scores(row["id"]))
    for method in (PLAIN, INSTRUCTED):
        yield {
            "attribute": attribute,
            "method": UNSTEERED[method],
            "module": None,
            "seed": run,
            "alpha": None,
            **_means(side.mean(method, "trait"), side.mean(method, "coherence")),
        }


def curve_rows(row: Mapping[str, Any], run: int, scores: Scores) -> list[Row]:
    """Trait and coherence at every alpha that was searched; n counts the questions with a trait score."""
    return [
        {
            "attribute": row["attribute"],
            "method": row["method"],
            "module": row["id"],
            "seed": run,
            "alpha": alpha,
            **_means(scores.trait[i], scores.coherence[i]),
        }
        for i, alpha in enumerate(scores.alphas)
    ]


def _means(trait: Any, coherence: Any) -> Row:
    scored = ~np.isnan(trait)
    mean = [float(np.mean(x[~np.isnan(x)])) if (~np.isnan(x)).any() else None for x in (trait, coherence)]
    return {"trait": mean[0], "coherence": mean[1], "n": int(scored.sum())}


@dataclass(frozen=True)
class Figured:
    """A benchmark's table: its name, its entries of one attribute and seed, and their columns."""

    name: str
    entries: Callable[..., Iterable[Entry]]
    columns: Columns


TABLES = {
    "persona": Figured("headline", persona_entries, headline_columns),
    "ifeval": Figured("ifeval", ifeval_entries, ifeval_columns),
    "axbench": Figured("axbench", axbench_entries, axbench_columns),
}
