"""Section 3, fitting: turn what the prompt does into modules, one for every attribute and method."""

from __future__ import annotations

from flows.params import Benchmark, Distill, Model
from flows.steps import stage
from psr.methods import parse_method
from tasks.distill import distill_module, gather_modules
from tasks.gather import gather
from tasks.models import ModelPlace
from tasks.place import Place


@stage
def distill(place: Place, model: Model, benchmark: Benchmark, methods: tuple[str, ...], distill: Distill) -> None:
    """min over (z, w, b) of the distance between the steered run on x y' and the plain run on x' y' (or of -log p)."""
    lm = ModelPlace(**model.model_dump())
    settings = distill.model_dump(exclude={"layer"})
    parts = [
        distill_module(f"{benchmark.name}/{name}", parse_method(method), place.of("complete"), place.of("select"),
                       place.of("extract"), lm, place.scratch, layer=distill.layer, settings=settings)
        for name in benchmark.attributes
        for method in methods
    ]
    gather(parts, place.out, ["modules", "curves"])
    gather_modules(parts, place.out)
