"""Section 4, data: judge the answers, keep the triplets (x, x', y') that show the attribute and make sense."""

from __future__ import annotations

from pathlib import Path

from flows.params import Benchmark, Judge, Select
from flows.steps import stage
from tasks.judges import judge_named
from tasks.place import Place
from tasks.select import judge_completions, select_triplets


@stage
def select(place: Place, benchmark: Benchmark, judge: Judge, select: Select) -> None:
    """Completions -> judgements -> triplets with soft labels, and what was dropped and why."""
    asked = judge_named(judge.name, benchmark.name, Path(benchmark.path), benchmark.attributes)
    judge_completions(place.of("complete"), asked, place.scratch, place.out, "select")
    select_triplets(place.of("complete"), place.out, **select.model_dump())
