"""Section 3, fitting: turn what the prompt does into modules, one for every attribute, method and seed."""

from __future__ import annotations

from flows.params import Benchmark, Distill, Model
from flows.steps import stage
from psr.fitting.methods import parse_method, trained
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.gather import gather
from tasks.engine.place import Place
from tasks.steps.distill import distill_module, gather_modules


@stage
def distill(
    place: Place,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    distill: Distill,
) -> None:
    """min over (z, w, b) of the distance between the steered run on x y' and the plain run on x' y' (or of -log p)."""
    lm = ModelPlace(**model.model_dump())
    settings = distill.model_dump(exclude={"layer"})
    wanted: dict[str, tuple[str, ...]] = {benchmark.name: benchmark.methods or methods for benchmark in benchmarks}
    parts = [
        distill_module(
            attribute.key,
            method,
            seed,
            place.of("complete"),
            place.of("select"),
            place.of("extract"),
            lm,
            place.scratch,
            layer=distill.layer,
            settings=settings,
        )
        for attribute in attributes_of(benchmarks)
        for method in map(parse_method, wanted[attribute.benchmark])
        for seed in (seeds if trained(method) else (None,))
    ]
    gather(parts, place.out, ["modules", "curves"])
    gather_modules(parts, place.out)
