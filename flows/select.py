"""Section 4, data: judge the answers, keep the triplets (x, x', y') that show the attribute and make sense."""

from __future__ import annotations

from flows.sections import Benchmark, Judge, Model, Select
from tasks.asking.calibration import calibrate_judges, ready
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of, benchmarks_of
from tasks.benchmarks.judges import judges_by_attribute
from tasks.engine.context import StepContext
from tasks.steps.judge import judge_completions
from tasks.steps.select import select_triplets


def select(context: StepContext, model: Model, benchmarks: tuple[Benchmark, ...], judge: Judge, select: Select) -> None:
    """Completions -> judgements -> triplets with soft labels, and the dropped answers with the reason."""
    source, lm = context.output_of("complete"), ModelSettings(**model.model_dump())
    judges = judges_by_attribute(attributes_of(benchmarks), **judge.model_dump())
    calibrate_judges(context, judges, source, lm)
    judge_completions(context, ready(judges, context.out, lm), source)
    select_triplets(source, context.out, benchmarks_of(benchmarks), **select.model_dump())
