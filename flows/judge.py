"""Section 5, evaluation: trait alignment and coherence of every steered answer, by a judge blind to the method."""

from __future__ import annotations

from flows.sections import Benchmark, Judge, Model
from tasks.asking.calibration import ready
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of
from tasks.benchmarks.judges import judges_by_attribute
from tasks.engine.context import StepContext
from tasks.steps.judge import judge_completions


def judge(context: StepContext, model: Model, benchmarks: tuple[Benchmark, ...], judge: Judge) -> None:
    """Completions -> judgements, by the function that also judges the training data."""
    judges = judges_by_attribute(attributes_of(benchmarks), **judge.model_dump())
    able = ready(judges, context.output_of("select"), ModelSettings(**model.model_dump()))
    judge_completions(context, able, context.output_of("steer"))
