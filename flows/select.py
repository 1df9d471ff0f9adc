"""Section 4, data: judge the answers, keep the triplets (x, x', y') that show the attribute and make sense."""

from __future__ import annotations

from flows.params import Benchmark, Judge, Select
from flows.steps import stage
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_named
from tasks.engine.place import Place
from tasks.steps.select import judge_completions, select_triplets


@stage
def select(place: Place, benchmarks: tuple[Benchmark, ...], judge: Judge, select: Select) -> None:
    """Completions -> judgements -> triplets with soft labels, and what was dropped and why."""
    judges = judges_named(judge.name, attributes_of(benchmarks))
    judge_completions(place.of("complete"), judges, place.scratch, place.out, "select")
    select_triplets(place.of("complete"), place.out, **select.model_dump())
