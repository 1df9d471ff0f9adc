"""Section 5, faithfulness: the prompt's effect on every token, and how closely each module matches it."""

from __future__ import annotations

from flows.sections import Benchmark, Faithfulness, Model, Sampling
from psr.answers.pairs import sampling_seeds
from tasks.asking.answers import Answerer
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.context import StepContext
from tasks.steps.faithfulness import TABLES, Measured, measure
from tasks.tables.gather import gather
from tasks.tables.modules import rows_of_seed


def faithfulness(
    context: StepContext,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    seeds: tuple[int, ...],
    sampling: Sampling,
    faithfulness: Faithfulness,
) -> None:
    """Δ_acc and Δ_loc on unseen questions (Eq. 3); relative RMSE per layer of every module beside paraphrased prompts."""
    lm, settings, distilled = ModelSettings(**model.model_dump()), faithfulness, context.output_of("distill")
    answerer = Answerer(lm, context.cells, **sampling.model_dump(), batch_size=settings.batch_size)
    learnt = {
        "complete": context.output_of("complete"),
        "select": context.output_of("select"),
        "triplets": settings.triplets,
    }
    calls = {}
    for attribute in attributes_of(benchmarks):
        for seed, (sampled,) in sampling_seeds(seeds, settings.seed, 1).items():
            measured = Measured(
                attribute, seed, sampled, answerer, settings.questions, settings.resamples, settings.seed
            )  # fmt: skip
            calls[f"{attribute.key} seed {seed}"] = {
                "measured": measured, **learnt, "strengths": settings.strengths, "search": context.output_of("search"),
                "folders": [distilled / row["folder"] for row in rows_of_seed(distilled, attribute.key, seed)],
            }  # fmt: skip
    cells = [cell for repetition in context.map(measure, calls) for cell in repetition]
    gather(cells, context.out, TABLES)
