"""Section 5, alpha: how strongly each module has to steer to be as coherent as the prompt, and as coherence 80."""

from __future__ import annotations

from pathlib import Path

from flows.params import Benchmark, Judge, Model, Sampling, Search
from flows.steps import stage
from tasks.benchmarks import load_attributes
from tasks.gather import gather
from tasks.judges import judge_named
from tasks.models import ModelPlace
from tasks.place import Place
from tasks.search import search_attribute


@stage
def search(
    place: Place, model: Model, benchmark: Benchmark, judge: Judge, sampling: Sampling, search: Search
) -> None:
    """Bracket alpha on questions that give no figure; keep every alpha that a resample of them would choose."""
    attributes = load_attributes(benchmark.name, Path(benchmark.path), benchmark.attributes)
    asked = judge_named(judge.name, benchmark.name, Path(benchmark.path), benchmark.attributes)
    lm = ModelPlace(**model.model_dump())
    parts = [
        search_attribute(attribute, place.of("distill"), lm, asked, place.scratch, **sampling.model_dump(),
                         **search.model_dump())
        for attribute in attributes
    ]
    gather(parts, place.out, ["pairs", "completions", "judgements", "candidates"])
