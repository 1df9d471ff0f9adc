"""Section 5, evaluation: trait alignment and coherence of every steered answer, by a judge that sees no method."""

from __future__ import annotations

from flows.params import Benchmark, Judge
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.engine.place import Place
from tasks.steps.judge import judge_completions


def judge(place: Place, benchmarks: tuple[Benchmark, ...], judge: Judge) -> None:
    """Completions -> judgements, by the same function that judged the training data."""
    judge_completions(place, judges_named(judge.name, attributes_of(benchmarks)), place.of("steer"))
