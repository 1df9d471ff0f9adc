"""Section 5, tables: trait alignment at matched coherence, with intervals that repeat the choice of alpha."""

from __future__ import annotations

from flows.sections import Benchmark, Results
from tasks.benchmarks.catalogue import benchmarks_of
from tasks.engine.context import StepContext
from tasks.figures.summaries import write_summaries
from tasks.steps.results import write_results


def results(context: StepContext, benchmarks: tuple[Benchmark, ...], results: Results) -> None:
    """TA@Cp, TA@Cp−2 and TA@C80 of every module beside the prompt's own trait alignment."""
    distill, search, steer, judge = (context.output_of(name) for name in ("distill", "search", "steer", "judge"))
    write_results(distill, search, steer, judge, context.out, benchmarks_of(benchmarks), **results.model_dump())
    write_summaries(context.out, distill, context.out.parent)
