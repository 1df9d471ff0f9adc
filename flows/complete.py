"""Section 4, data: answers y' of the instructed model, and plain answers y for differences of means."""

from __future__ import annotations

from flows.sections import Benchmark, Complete, Model, Sampling
from tasks.asking.answers import Answerer
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of, benchmarks_of
from tasks.engine.context import StepContext
from tasks.steps.complete import complete_attribute, write_benchmarks
from tasks.tables.gather import gather


def complete(
    context: StepContext, model: Model, benchmarks: tuple[Benchmark, ...], sampling: Sampling, complete: Complete
) -> None:
    """x' -> y' and x -> y, for every fitting question × instruction × sample of every attribute."""
    lm = ModelSettings(**model.model_dump())
    answerer = Answerer(lm, context.cells, **sampling.model_dump(), batch_size=complete.batch_size)
    arguments = {"answerer": answerer, **complete.model_dump(exclude={"batch_size"})}
    cells = context.map(complete_attribute, {a.key: {"attribute": a, **arguments} for a in attributes_of(benchmarks)})
    gather(cells, context.out, ["pairs", "completions"])
    write_benchmarks(context.out, [one.name for one in benchmarks], benchmarks_of(benchmarks))
