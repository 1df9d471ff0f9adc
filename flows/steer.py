"""Section 5, evaluation: the plain model, the prompted one and every module answer questions that nobody has seen."""

from __future__ import annotations

from flows.params import Benchmark, Model, Sampling, Steer
from flows.steps import stage
from psr.answers.pairs import sampling_seeds
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.gather import gather
from tasks.engine.place import Place
from tasks.steps.steer import steer_attribute


@stage
def steer(
    place: Place,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    seeds: tuple[int, ...],
    sampling: Sampling,
    steer: Steer,
) -> None:
    """A' = A + alpha · lambda(A) · z (Eq. 7) at every candidate alpha, and lambda per token for a few answers."""
    attributes = attributes_of(benchmarks)
    settings = steer.model_dump(exclude={"seed", "samples"})
    lm = ModelPlace(**model.model_dump())
    parts = [
        steer_attribute(
            attribute,
            seed,
            sampled,
            place.of("distill"),
            place.of("search"),
            lm,
            place.scratch,
            **sampling.model_dump(),
            **settings,
        )
        for attribute in attributes
        for seed, sampled in sampling_seeds(seeds, steer.seed, steer.samples).items()
    ]
    gather(parts, place.out, ["pairs", "completions", "strengths", "draws"])
