"""Section 5, evaluation: trait alignment and coherence of every steered answer, by a judge that sees no method."""

from __future__ import annotations

from flows.params import Benchmark, Judge
from flows.steps import stage
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.engine.place import Place
from tasks.steps.select import judge_completions


@stage
def judge(place: Place, benchmarks: tuple[Benchmark, ...], judge: Judge) -> None:
    """Completions -> judgements, by the same function that judged the training data."""
    judges = judges_named(judge.name, attributes_of(benchmarks))
    judge_completions(place.of("steer"), judges, place.scratch, place.out, "judge")
