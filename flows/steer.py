"""Section 5, evaluation: the plain model, the prompted one and every module answer questions that nobody has seen."""

from __future__ import annotations

from pathlib import Path

from flows.params import Benchmark, Model, Sampling, Steer
from flows.steps import stage
from tasks.benchmarks import load_attributes
from tasks.gather import gather
from tasks.models import ModelPlace
from tasks.place import Place
from tasks.steer import steer_attribute


@stage
def steer(place: Place, model: Model, benchmark: Benchmark, sampling: Sampling, steer: Steer) -> None:
    """A' = A + alpha · lambda(A) · z (Eq. 7) at every candidate alpha, and lambda per token for a few answers."""
    attributes = load_attributes(benchmark.name, Path(benchmark.path), benchmark.attributes)
    lm = ModelPlace(**model.model_dump())
    parts = [
        steer_attribute(attribute, place.of("distill"), place.of("search"), lm, place.scratch, **sampling.model_dump(),
                        **steer.model_dump())
        for attribute in attributes
    ]
    gather(parts, place.out, ["pairs", "completions", "strengths"])
