"""Section 4, data: answers y' from the instructed model, and plain ones for the other side of a difference of means."""

from __future__ import annotations

from flows.params import Benchmark, Complete, Model, Sampling
from flows.steps import stage
from tasks.benchmarks import attributes_of
from tasks.complete import complete_attribute
from tasks.gather import gather
from tasks.models import ModelPlace
from tasks.place import Place


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
