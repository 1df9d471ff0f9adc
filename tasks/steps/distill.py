"""Distillation: one module for every attribute, method and seed, fitted to the cached activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.errors import PsrError
from psr.types import CurvePoint, Example, Method, Triplet, short_hash
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.gather import part
from tasks.engine.progress import progress
from tasks.engine.scratch import Scratch
from tasks.steps.extract import recording
from tasks.tables.activations import read_targets
from tasks.tables.parquet import write_curves, write_table
from tasks.tables.triplets import plain_answers, triplets_by_attribute

if TYPE_CHECKING:
    from psr.fitting.presets import FitSettings
    from psr.lm.models import LanguageModel
    from psr.lm.recording import Targets
    from psr.steering.module import SteeringModule

VERSION = 1  # of what fitting does; part of every module's id


@dataclass(frozen=True)
class Material:
    """What the modules of one attribute are fitted on. rejected: (pair, seed) -> the tokens of the plain answer."""

    attribute: str
    triplets: Sequence[Triplet]
    rejected: dict[tuple[str, int], tuple[int, ...]]
    lm: LanguageModel
    cache: Path

    @cached_property
    def instructed(self) -> Targets:
        return read_targets(self.cache, recording(self.attribute, "instructed"))

    @cached_property
    def plain(self) -> Targets:
        return read_targets(self.cache, recording(self.attribute, "plain"))

    def examples(self, method: Method) -> list[Example]:
        """The triplets aligned on the method's span, with their soft labels and the plain answer to the same question."""
        from psr.lm.alignment import align

        return [
            Example(
                align(self.lm.tokenizer, t.pair, t.completion.token_ids, method.span),
                t.trait,
                self.rejected.get((t.pair.id, t.completion.seed)),
            )
            for t in self.triplets
        ]

    def targets(self, examples: Sequence[Example], method: Method) -> Targets:
        """The instructed runs on the method's span: the cache holds QR, and R is its end."""
        return self.instructed.last([example.tokens.length for example in examples], method.span)


@lru_cache(maxsize=1)
def material_of(attribute: str, complete: Path, select: Path, extract: Path, model: ModelPlace) -> Material:
    """Read once for all modules of an attribute, which are fitted one after the other."""
    rejected = {(pair.id, c.seed): c.token_ids for pair, c in plain_answers(complete)[attribute]}
    return Material(attribute, triplets_by_attribute(complete, select)[attribute], rejected, open_model(model), extract)


@task(cache_policy=NO_CACHE)
def distill_module(
    attribute: str,
    method: Method,
    seed: int | None,
    complete: Path,
    select: Path,
    extract: Path,
    model: ModelPlace,
    scratch: Scratch,
    *,
    layer: int,
    settings: dict[str, Any],
) -> Path:
    """Fit one module (seed None: of a method without training). Returns the part: its row, its training curve, its folder."""
    home = Path("modules") / attribute.replace("/", "-") / method.slug / ("" if seed is None else f"seed-{seed}")

    def write(folder: Path) -> None:
        from psr.steering.module import save_module

        material = material_of(attribute, complete, select, extract, model)
        lm = material.lm
        layers = (layer,) if method.scope == "S" else tuple(range(lm.n_layers))
        module, curve = fit_module(material, method, layers, {**settings, "seed": seed})
        save_module(module, folder / home)
        write_curves(folder / "curves.parquet", {module.id: curve})
        row = {
            "id": module.id,
            "attribute": attribute,
            "method": method.slug,
            **asdict(method),
            "layer": layer if method.scope == "S" else None,
            "seed": seed,
            "triplets": len(material.triplets),
            "folder": home.as_posix(),
            "model": lm.fingerprint,
        }
        write_table(folder / "modules.parquet", "modules", [row])

    return part(scratch, f"part-{'-'.join(home.parts[1:])}", write)


def fit_module(
    material: Material, method: Method, layers: tuple[int, ...], told: dict[str, Any]
) -> tuple[SteeringModule, tuple[CurvePoint, ...]]:
    """The module that the method makes of the cached activations or of the examples; its id says what it was made from."""
    from psr.fitting.learning import learn
    from psr.steering.module import SteeringModule

    settings = fit_settings(method, told, material.attribute.partition("/")[0])
    sources = [t.id for t in material.triplets]
    id = short_hash(
        "module",
        VERSION,
        material.attribute,
        method.slug,
        layers,
        asdict(settings) if settings else {},
        sources,
        material.lm.fingerprint,
    )
    origin = {
        "attribute": material.attribute,
        "method": method.slug,
        "triplets": short_hash(*sources),
        "version": VERSION,
    }
    examples = material.examples(method)
    targets = material.targets(examples, method) if method.objective in ("MSE", "DiM") else None
    plain = material.plain if method.objective == "DiM" else None
    epochs = settings.epochs if settings else 0
    with progress(f"distill {material.attribute} {method.name}", epochs * len(examples), "examples") as advance:
        fitted = learn(
            material.lm,
            examples,
            method,
            layers,
            settings,
            targets=targets,
            plain=plain,
            module_id=id,
            origin=origin,
            progress=advance,
        )
    if not isinstance(fitted.module, SteeringModule):
        raise PsrError(
            "this method changes the model's weights, not its activations",
            got=method.slug,
            do="`from psr.fitting.learning import learn` fits it.",
        )
    if fitted.dead:
        print(
            f"warning: {method.name} for {material.attribute} is dead: no gate opens on any training token", flush=True
        )
    return fitted.module, fitted.curve


def fit_settings(method: Method, told: dict[str, Any], benchmark: str) -> FitSettings | None:
    """The preset with what params.yaml changes of it; None for methods without training.

    The benchmark's package (regulariser and normalised MSE, which belong together) is the MSE's. ReFT-r1 keeps its authors' schedule.
    """
    from psr.fitting.methods import trained
    from psr.fitting.presets import package, preset

    if not trained(method):
        return None
    objective = method.objective
    ours = ("seed",) if objective == "ReFT-r1" else ("seed", "epochs", "batch_size", "lr")
    base = replace(preset(told["preset"], objective), **{name: told[name] for name in ours if told[name] is not None})
    return replace(base, **package(benchmark)) if objective == "MSE" else base  # type: ignore[arg-type]


@task(cache_policy=NO_CACHE)
def gather_modules(parts: Sequence[Path], out: Path) -> None:
    """Copy every part's module folder beside the gathered tables."""
    import shutil

    for source in parts:
        shutil.copytree(source / "modules", out / "modules", dirs_exist_ok=True)
