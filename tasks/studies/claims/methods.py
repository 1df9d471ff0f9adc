"""Claims 2, 3, 4 and 7: methods compared by what people judge, with the results' own draws of questions.

Figures are computed again from the judged completions, since the tables keep their intervals but not their draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from psr.evaluation.bootstrap import Figure
from psr.evaluation.claims import BESIDE, CONTRASTS, Contrast, difference, mean_difference
from psr.fitting.methods import parse_method
from tasks.benchmarks.catalogue import benchmark_named
from tasks.figures.entries import LIKELIHOOD, entries
from tasks.figures.sides import sides
from tasks.studies.claims.rows import Measured, Part, Row, claim_row
from tasks.studies.claims.sql import contrast_question
from tasks.tables.modules import rows_of_seed

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark

NAMES = {
    "ta_cp": "TA@Cp",
    "ta_cp2": "TA@Cp−2",
    "ta_c80": "TA@C80",
    "words": "trait by words",
    "strict": "strict accuracy",
    "overall": "harmonic mean (in % of 2)",
}
VIEWS = {"persona": "headline"}  # a benchmark's view, where it is not called like the benchmark
PRINTED = {"ta_cp": 0, "ta_c80": 1, "strict": 0}  # a figure's column in the paper's own table
Figures = Mapping[tuple[str, str, str], Mapping[int, Figure]]  # (figure, method, attribute) -> by seed


def method_rows(
    data: Path, profile: str, benchmarks: Mapping[str, Benchmark], *, resamples: int, seed: int
) -> list[Row]:
    """A row a contrast. benchmarks: the profile's, by their own name; resamples, seed: those of the profile's results."""
    figures, judges = figures_of(data, benchmarks, resamples, seed)
    return [
        claim_row(part_of(one), compare_beside(one, figures, profile))
        for contrast in CONTRASTS
        for one in [contrast.by_likelihoods() if judges.get(contrast.benchmark) == LIKELIHOOD else contrast]
    ]


def figures_of(
    data: Path, benchmarks: Mapping[str, Benchmark], resamples: int, seed: int
) -> tuple[dict[tuple[str, str, str], dict[int, Figure]], dict[str, str]]:
    """The figures of every method that a claim names, with their resampled values; and who judged each benchmark."""
    wanted = {name.removesuffix("+prompt") for contrast in CONTRASTS for name in (contrast.higher, contrast.lower)}
    named = {contrast.benchmark for contrast in CONTRASTS}
    draws = {"resamples": resamples, "seed": seed}
    searched, evaluated = sides(data / "search", data / "search"), sides(data / "steer", data / "judge")
    figures: dict[tuple[str, str, str], dict[int, Figure]] = {}
    judges: dict[str, str] = {}
    for (attribute, run), evaluation in sorted(evaluated.items(), key=lambda item: item[0]):
        benchmark = benchmarks[attribute.partition("/")[0]]
        if benchmark.name not in named:
            continue
        judges[benchmark.name] = evaluation.judge
        modules = [row for row in rows_of_seed(data / "distill", attribute, run) if row["method"] in wanted]
        for entry in entries(benchmark, attribute, run, modules, searched[attribute, run], evaluation, draws):
            for name, figure in entry.figures.items():
                if name in NAMES and figure is not None and not np.isnan(figure.value):
                    figures.setdefault((name, entry.facts["method"], attribute), {})[run] = figure
    return figures, judges


def compare_beside(contrast: Contrast, figures: Figures, profile: str) -> Measured | str:
    """`compare`, with the same difference in the column that is shown beside, where there is one."""
    found = compare(contrast, figures, profile)
    if isinstance(found, str) or contrast.column not in BESIDE:
        return found
    beside = compare(replace(contrast, column=BESIDE[contrast.column]), figures, profile)
    return found if isinstance(beside, str) else replace(found, beside=beside.interval)


def compare(contrast: Contrast, figures: Figures, profile: str) -> Measured | str:
    """The mean difference over every attribute and seed that has both figures; or what is missing."""
    sides_ = [
        {
            attribute: by_seed
            for (column, method, attribute), by_seed in figures.items()
            if (column, method) == (contrast.column, name) and attribute.startswith(f"{contrast.benchmark}/")
        }
        for name in (contrast.higher, contrast.lower)
    ]
    absent = [printed(name) for name, side in zip((contrast.higher, contrast.lower), sides_, strict=True) if not side]
    if absent:
        of = f" with {NAMES[contrast.column]}" if contrast.column == contrast.by_rule else ""
        return f"no {' and no '.join(absent)} on {contrast.benchmark}{of}"
    ours, other = sides_
    common = {
        attribute: sorted(set(ours[attribute]) & set(other[attribute])) for attribute in sorted(set(ours) & set(other))
    }
    prompts = {
        attribute: contrast.scale * float(np.mean([other[attribute][run].value for run in runs]))
        for attribute, runs in common.items()
        if runs
    }
    low, high = contrast.prompt or (-np.inf, np.inf)
    kept = [attribute for attribute, mean in prompts.items() if low <= mean <= high]
    if not kept:
        return _none_kept(contrast, prompts)
    differences = {
        attribute: [
            difference(ours[attribute][run], other[attribute][run], contrast.scale) for run in common[attribute]
        ]
        for attribute in kept
    }
    return Measured(
        mean_difference(differences),
        min(len(common[attribute]) for attribute in kept),
        kept,
        contrast_question(contrast, VIEWS.get(contrast.benchmark, contrast.benchmark), profile),
    )


def _none_kept(contrast: Contrast, prompts: Mapping[str, float]) -> str:
    if not prompts or contrast.prompt is None:
        return f"no attribute of {contrast.benchmark} has both"
    means = ", ".join(f"{attribute.partition('/')[2]} {mean:.1f}" for attribute, mean in prompts.items())
    return f"no attribute whose prompt is at {contrast.prompt[0]:g} to {contrast.prompt[1]:g} ({means})"


def part_of(contrast: Contrast) -> Part:
    """What is compared in words, and the paper's own difference."""
    words = f"{NAMES[contrast.column]} of {printed(contrast.higher)} less {printed(contrast.lower)}"
    return Part(contrast.claim, contrast.part, words, published(contrast))


def printed(method: str) -> str:
    """A method as tables print it; on top of the prompt: METHOD + prompt."""
    if method == "prompt":
        return method
    return parse_method(method.removesuffix("+prompt")).name + (" + prompt" if method.endswith("+prompt") else "")


def published(contrast: Contrast) -> float | None:
    """The paper's own difference, rounded as its figures are; None where it printed none."""
    table = benchmark_named(contrast.benchmark).published
    if table is None or contrast.column not in PRINTED:
        return None
    both = [
        table.rows[name][PRINTED[contrast.column]] for name in (contrast.higher, contrast.lower) if name in table.rows
    ]
    first, second = both if len(both) == 2 else (None, None)
    return None if first is None or second is None else round(first - second, 1)
