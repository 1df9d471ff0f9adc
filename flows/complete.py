"""Section 4, data: answers y' from the instructed model, and plain ones for the other side of a difference of means."""

from __future__ import annotations

from flows.params import Benchmark, Complete, Model, Sampling
from flows.steps import stage
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.gather import gather
from tasks.engine.place import Place
from tasks.steps.complete import complete_attribute


@stage
def complete(
    place: Place, model: Model, benchmarks: tuple[Benchmark, ...], sampling: Sampling, complete: Complete
) -> None:
    """x' -> y' and x -> y, for every fitting question × instruction × sample of every attribute."""
    attributes = attributes_of(benchmarks)
    lm = ModelPlace(**model.model_dump())
    parts = [
        complete_attribute(attribute, lm, place.scratch, **sampling.model_dump(), **complete.model_dump())
        for attribute in attributes
    ]
    gather(parts, place.out, ["pairs", "completions"])
