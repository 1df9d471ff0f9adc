"""Section 5, evaluation: trait alignment and coherence of every steered answer, by a judge that sees no method."""

from __future__ import annotations

from pathlib import Path

from flows.params import Benchmark, Judge
from flows.steps import stage
from tasks.judges import judge_named
from tasks.place import Place
from tasks.select import judge_completions


@stage
def judge(place: Place, benchmark: Benchmark, judge: Judge) -> None:
    """Completions -> judgements, by the same function that judged the training data."""
    asked = judge_named(judge.name, benchmark.name, Path(benchmark.path), benchmark.attributes)
    judge_completions(place.of("steer"), asked, place.scratch, place.out, "judge")
