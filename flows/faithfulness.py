"""Section 5, faithfulness: what the prompt does to every token, and how closely each module does the same."""

from __future__ import annotations

from flows.params import Benchmark, Faithfulness, Model, Sampling
from flows.steps import stage
from psr.answers.pairs import sampling_seeds
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.gather import gather
from tasks.engine.place import Place
from tasks.steps.faithfulness import TABLES, measure_attribute


@stage
def faithfulness(
    place: Place,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    seeds: tuple[int, ...],
    sampling: Sampling,
    faithfulness: Faithfulness,
) -> None:
    """Δ_acc and Δ_loc on unseen questions (Eq. 3); relative RMSE per layer of every module beside paraphrased prompts."""
    settings = faithfulness.model_dump(exclude={"seed"})
    lm = ModelPlace(**model.model_dump())
    parts = [
        measure_attribute(
            attribute,
            seed,
            sampled,
            *(place.of(name) for name in ("complete", "select", "distill", "search")),
            lm,
            place.scratch,
            drawn=faithfulness.seed,
            **sampling.model_dump(),
            **settings,
        )
        for attribute in attributes_of(benchmarks)
        for seed, (sampled,) in sampling_seeds(seeds, faithfulness.seed, 1).items()
    ]
    gather(parts, place.out, TABLES)
