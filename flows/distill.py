"""Section 3, fitting: turn what the prompt does into modules, one for every attribute, method and seed."""

from __future__ import annotations

from typing import Any

from flows.sections import Benchmark, Distill, Model
from psr.fitting.methods.named import methods_named
from tasks.asking.models import ModelSettings
from tasks.engine.context import StepContext
from tasks.steps.distill import Sources, distill_modules, gather_modules, joint_groups
from tasks.tables.benchmarks import benchmarks_by_origin
from tasks.tables.gather import gather
from tasks.tables.triplets import triplets_by_attribute


def distill(
    context: StepContext,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    distill: Distill,
) -> None:
    """min over (z, w, b) of the distance between the steered run on x y' and the plain run on x' y' (or of -log p)."""
    complete, select, extract = (context.output_of(step) for step in ("complete", "select", "extract"))
    sources = Sources(complete, select, extract, ModelSettings(**model.model_dump()), context.cells)
    settings: dict[str, Any] = {
        "sources": sources,
        "layer": distill.layer,
        "settings": distill.model_dump(exclude={"layer"}),
    }
    learnt, known = triplets_by_attribute(complete, select), benchmarks_by_origin(complete)
    order: list[str] = []
    calls: dict[str, dict[str, Any]] = {}
    for benchmark in benchmarks:
        name, package = known[benchmark.name]
        attributes = [key for key in learnt if key.startswith(f"{name}/")]
        for method in methods_named(benchmark.methods or methods):
            members = [(attribute, seed) for attribute in attributes for seed in (seeds if method.trained else (None,))]
            for number, group in enumerate(joint_groups(members, method, sources.extract)):
                order += [attribute for attribute, _ in group]
                own = {"members": group, "method": method, "package": package}
                calls[f"{name} {method.method.slug} {number}"] = {**own, **settings}
    cells = [cell for group in context.map(distill_modules, calls) for cell in group]
    by_attribute = [cell for _, cell in sorted(zip(order, cells, strict=True), key=lambda pair: pair[0])]
    gather(by_attribute, context.out, ["modules", "curves"])
    gather_modules(by_attribute, context.out)
