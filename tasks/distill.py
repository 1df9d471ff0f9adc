"""Distillation: one module for every attribute and method, fitted to the cached activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.types import CurvePoint, Example, Method, Triplet, short_hash
from tasks.activations import read_targets
from tasks.extract import recording
from tasks.gather import part
from tasks.models import ModelPlace, open_model
from tasks.progress import progress
from tasks.scratch import Scratch
from tasks.tables import write_curves, write_table
from tasks.triplets import triplets_by_attribute

if TYPE_CHECKING:
    from psr.models import LanguageModel
    from psr.module import SteeringModule
    from psr.presets import FitSettings
    from psr.recording import Targets

VERSION = 1  # of what fitting does; part of every module's id


@dataclass(frozen=True)
class Material:
    """What the modules of one attribute are fitted on."""

    attribute: str
    triplets: Sequence[Triplet]
    lm: LanguageModel
    cache: Path

    @cached_property
    def instructed(self) -> Targets:
        return read_targets(self.cache, recording(self.attribute, "instructed"))

    @cached_property
    def plain(self) -> Targets:
        return read_targets(self.cache, recording(self.attribute, "plain"))

    def examples(self, method: Method) -> list[Example]:
        """The triplets aligned on the method's span, with their soft labels."""
        from psr.align import align

        return [Example(align(self.lm.tokenizer, t.pair, t.completion.token_ids, method.span), t.trait) for t in self.triplets]

    def targets(self, examples: Sequence[Example], method: Method) -> Targets:
        """The instructed runs on the method's span: the cache holds QR, and R is its end."""
        return self.instructed.last([example.tokens.length for example in examples], method.span)


@task(cache_policy=NO_CACHE)
def distill_module(
    attribute: str, method: Method, complete: Path, select: Path, extract: Path, model: ModelPlace, scratch: Scratch, *,
    layer: int, settings: dict[str, Any],
) -> Path:
    """Fit one module. Returns the part: its row, its training curve, its folder."""

    def write(folder: Path) -> None:
        from psr.module import save_module

        lm = open_model(model)
        material = Material(attribute, triplets_by_attribute(complete, select)[attribute], lm, extract)
        layers = (layer,) if method.scope == "S" else tuple(range(lm.n_layers))
        module, curve = fit_module(material, method, layers, settings)
        home = Path("modules") / attribute.replace("/", "-") / method.slug
        save_module(module, folder / home)
        write_curves(folder / "curves.parquet", {module.id: curve})
        row = {"id": module.id, "attribute": attribute, "method": method.slug, **asdict(method),
               "layer": layer if method.scope == "S" else None, "seed": settings["seed"],
               "triplets": len(material.triplets), "folder": home.as_posix(), "model": lm.fingerprint}
        write_table(folder / "modules.parquet", "modules", [row])

    return part(scratch, f"part-{attribute.replace('/', '-')}-{method.slug}", write)


def fit_module(
    material: Material, method: Method, layers: tuple[int, ...], told: dict[str, Any]
) -> tuple[SteeringModule, tuple[CurvePoint, ...]]:
    """A module by difference of means, or by gradients on the cached targets; its id says what it was made from."""
    from psr.difference import difference_of_means
    from psr.fitting import fit

    settings = fit_settings(method.objective, told)
    sources = [t.id for t in material.triplets]
    id = short_hash("module", VERSION, material.attribute, method.slug, layers, asdict(settings) if settings else {},
                    sources, material.lm.fingerprint)
    origin = {"attribute": material.attribute, "method": method.slug, "triplets": short_hash(*sources), "version": VERSION}
    label = f"distill {material.attribute} {method.name}"
    if settings is None:
        responses = [len(t.completion.token_ids) for t in material.triplets]
        instructed = material.instructed.last([n + 1 for n in responses], "R")
        print(f"{label}: difference of means over {len(instructed)} and {len(material.plain)} answers", flush=True)
        module = difference_of_means(instructed, material.plain, layers, method.span, module_id=id, origin=origin)
        return module, ()
    examples = material.examples(method)
    targets = material.targets(examples, method) if method.objective == "MSE" else None
    with progress(label, settings.epochs * len(examples), "examples") as advance:
        fitted = fit(material.lm, examples, method, layers, settings, targets=targets, module_id=id, origin=origin,
                     progress=advance)
    return fitted.module, fitted.curve


def fit_settings(objective: str, told: dict[str, Any]) -> FitSettings | None:
    """The preset with what params.yaml changes of it; None for a difference of means, which has no settings.

    A package (regulariser and normalised MSE, which belong together) is for the MSE.
    """
    from psr.presets import package, preset

    if objective == "DiM":
        return None
    known = {name: value for name, value in told.items() if name not in ("preset", "package") and value is not None}
    base = replace(preset(told["preset"], objective), **known)
    return replace(base, **package(told["package"])) if objective == "MSE" else base  # type: ignore[arg-type]


@task(cache_policy=NO_CACHE)
def gather_modules(parts: Sequence[Path], out: Path) -> None:
    """Copy every part's module folder beside the gathered tables."""
    import shutil

    for source in parts:
        shutil.copytree(source / "modules", out / "modules", dirs_exist_ok=True)
