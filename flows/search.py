"""Section 5, alpha: how strongly each module has to steer to be as coherent as the prompt, and as coherence 80."""

from __future__ import annotations

from flows.params import Benchmark, Judge, Model, Sampling, Search
from flows.steps import stage
from psr.answers.pairs import sampling_seeds
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.engine.gather import gather
from tasks.engine.place import Place
from tasks.steps.search import search_attribute


@stage
def search(
    place: Place,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    judge: Judge,
    seeds: tuple[int, ...],
    sampling: Sampling,
    search: Search,
) -> None:
    """Bracket alpha on questions that give no figure; keep every alpha that a resample of them would choose."""
    attributes = attributes_of(benchmarks)
    judges = judges_named(judge.name, attributes)
    settings = search.model_dump(exclude={"seed", "samples"})
    lm = ModelPlace(**model.model_dump())
    parts = [
        search_attribute(
            attribute,
            seed,
            sampled,
            place.of("distill"),
            lm,
            judges[attribute.benchmark],
            place.scratch,
            **sampling.model_dump(),
            **settings,
        )
        for attribute in attributes
        for seed, sampled in sampling_seeds(seeds, search.seed, search.samples).items()
    ]
    gather(parts, place.out, ["pairs", "completions", "judgements", "candidates", "draws"])
