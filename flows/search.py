"""Section 5, alpha: the strength at which each module is as coherent as the prompt, and at which coherence is 80."""

from __future__ import annotations

from typing import Any

from flows.sections import Benchmark, Judge, Model, Sampling, Search
from psr.answers.pairs import sampling_seeds
from tasks.asking.answers import Answerer
from tasks.asking.calibration import ready
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of, benchmarks_of
from tasks.benchmarks.judges import judges_by_attribute
from tasks.engine.context import StepContext
from tasks.steps.search import search_module, search_unsteered
from tasks.tables.gather import gather
from tasks.tables.modules import rows_of_seed

TABLES = ("pairs", "completions", "judgements", "candidates", "draws")


def search(
    context: StepContext,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    judge: Judge,
    seeds: tuple[int, ...],
    sampling: Sampling,
    search: Search,
) -> None:
    """Bracket alpha on the search questions; keep every alpha that a resample of them chooses."""
    attributes, distilled, by_name = attributes_of(benchmarks), context.output_of("distill"), benchmarks_of(benchmarks)
    lm = ModelSettings(**model.model_dump())
    judges = ready(judges_by_attribute(attributes, **judge.model_dump()), context.output_of("select"), lm)
    answerer = Answerer(lm, context.cells, **sampling.model_dump(), batch_size=search.batch_size)
    grid = search.model_dump(exclude={"seed", "samples", "questions", "batch_size"})
    unsteered: dict[str, dict[str, Any]] = {}
    modules: dict[str, dict[str, Any]] = {}
    order = []
    for attribute in attributes:
        for seed, sampled in sampling_seeds(seeds, search.seed, search.samples).items():
            arguments = {
                "attribute": attribute, "benchmark": by_name[attribute.benchmark], "seed": seed, "sampled": sampled,
                "answerer": answerer, "judge": judges[attribute.key], "questions": search.questions,
            }  # fmt: skip
            own = {
                f"{attribute.key} {row['method']} seed {seed}": {
                    **arguments, "folder": distilled / row["folder"], "grid": grid
                }
                for row in rows_of_seed(distilled, attribute.key, seed)
            }  # fmt: skip
            unsteered[name := f"{attribute.key} seed {seed}"] = arguments
            modules |= own
            order += [name, *own]
    both = [*context.map(search_unsteered, unsteered), *context.map(search_module, modules)]
    cells = dict(zip([*unsteered, *modules], both, strict=True))
    gather([cells[name] for name in order], context.out, TABLES)
