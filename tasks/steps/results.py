"""From judgements to the table of figures: every benchmark's own, with intervals, per seed and over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.evaluation.alpha_search import Scores
from psr.types import INSTRUCTED, PLAIN
from tasks.figures.entries import UNSTEERED, Entry, entries, mean_rows, seed_rows
from tasks.figures.sides import Side, sides
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import write_table

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark

Row = dict[str, Any]


def write_results(
    distill: Path, search: Path, steer: Path, judge: Path, out: Path, benchmarks: Mapping[str, Benchmark],
    *, resamples: int, seed: int,
) -> None:  # fmt: skip
    """Write the figures over seeds and seed by seed, trait against coherence along α, and what the benchmarks say of them.

    benchmarks: by their own name. What a profile does not measure is a table without rows.
    """
    measured: list[Entry] = []
    curve: list[Row] = []
    draws = {"resamples": resamples, "seed": seed}
    searched, evaluated = sides(search, search), sides(steer, judge)
    for (attribute, run), evaluation in sorted(evaluated.items(), key=lambda item: item[0]):
        benchmark, looked = benchmarks[attribute.partition("/")[0]], searched[attribute, run]
        modules = rows_of_seed(distill, attribute, run)
        measured += entries(benchmark, attribute, run, modules, looked, evaluation, draws)
        if benchmark.strength.unsteered:
            curve += curve_points(attribute, run, modules, looked, (benchmark.asked, benchmark.sense))
    rows = {
        "figures": mean_rows(measured),
        "figures_seeds": seed_rows(measured),
        "curve": curve,
        "measures": [row for i, benchmark in enumerate(benchmarks.values()) for row in measure_rows(benchmark, i)],
        "published": [row for benchmark in benchmarks.values() for row in published_rows(benchmark)],
    }
    for name, own in rows.items():
        write_table(out / f"{name}.parquet", name, own)


def measure_rows(benchmark: Benchmark, section: int) -> Iterator[Row]:
    """What is shown of the benchmark in its section of every page, the main measure first."""
    about = {"section": section, "benchmark": benchmark.name, "title": benchmark.title, "about": benchmark.about}
    for position, measure in enumerate(benchmark.measures):
        row = {name: value for name, value in asdict(measure).items() if name != "of"}
        yield {**about, "position": position, **row, "mean": measure.mean or f"mean {measure.figure}"}


def published_rows(benchmark: Benchmark) -> Iterator[Row]:
    """Other people's figures, a row a method and column."""
    if (table := benchmark.published) is None:
        return
    for method, values in table.rows.items():
        for position, (heading, value) in enumerate(zip(table.columns, values, strict=True)):
            yield {
                "benchmark": benchmark.name, "source": table.source, "position": position, "heading": heading,
                "digits": table.digits, "method": method, "value": value,
            }  # fmt: skip


def curve_points(
    attribute: str, run: int, modules: Iterable[Row], side: Side, dimensions: tuple[str, str]
) -> Iterator[Row]:
    """Every module's curve on the search questions, and where the plain model and the prompt lie among them."""
    for row in modules:
        yield from curve_rows(row, run, side.scores(row["id"], dimensions))
    for method in (PLAIN, INSTRUCTED):
        asked, sense = (side.mean(method, dimension) for dimension in dimensions)
        yield {
            "attribute": attribute,
            "method": UNSTEERED[method],
            "module": None,
            "seed": run,
            "alpha": None,
            **_means(asked, sense),
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
