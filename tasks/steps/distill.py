"""Distillation: one module for every attribute, method and seed, fitted to the cached activations.

A module is a cell. Those that gradients fit with one method and one package of settings are fitted jointly, as many as the
memory budget allows: the frozen model's work on a batch is shared, and each comes out as fitted alone (psr/fitting/joint.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.fitting.methods import MethodPlug
from psr.types import (
    INSTRUCTED,
    PLAIN,
    AlignedTokens,
    CurvePoint,
    Example,
    Method,
    PromptPair,
    Span,
    Triplet,
    short_hash,
)
from tasks.asking.models import ModelSettings, open_model
from tasks.engine.cells import Cells, copy, remembered
from tasks.engine.inputs import plug_code
from tasks.engine.progress import progress, say
from tasks.tables.activations import Run, held_bytes, plain_run, read_index, read_targets, recording
from tasks.tables.parquet import write_curves, write_table
from tasks.tables.triplets import plain_answers, triplets_by_attribute

if TYPE_CHECKING:
    from psr.fitting.loop import Fitted
    from psr.fitting.presets import FitSettings
    from psr.fitting.stores import EightBit, Store
    from psr.lm.models import LanguageModel
    from psr.lm.recording import Targets
    from psr.steering.module import SteeringModule

VERSION = 1  # of what fitting does; part of every module's id
TOGETHER = 16  # modules in one joint fit: what a kill may lose
BUDGET = 4_000_000_000  # bytes of targets that one joint fit may hold
Member = tuple[str, int | None]  # attribute, seed (None: of a method without training)


@dataclass(frozen=True)
class Sources:
    """Where a fit finds what it reads: the outputs of earlier steps, the model, and the finished cells."""

    complete: Path
    select: Path
    extract: Path
    model: ModelSettings
    cells: Cells


@dataclass(frozen=True, eq=False)
class Material:
    """What the modules of one attribute are fitted on. rejected: (pair, seed) -> the tokens of the plain answer; negatives:
    plain answers to other questions, which steering shall leave as they are (a pair's plain side, and the tokens)."""

    attribute: str
    triplets: Sequence[Triplet]
    rejected: Mapping[tuple[str, int], tuple[int, ...]]
    lm: LanguageModel
    negatives: Sequence[tuple[PromptPair, tuple[int, ...]]] = ()

    @cached_property
    def content(self) -> str:
        """A hash of all of it: ids name what was asked, this also what came of it."""
        learnt = [(t.id, t.pair.id, t.completion.token_ids, t.trait) for t in self.triplets]
        return short_hash("material", learnt, sorted(self.rejected.items()), *self.unchanged)

    @property
    def unchanged(self) -> list[object]:
        """What the negatives are, as part of a hash: nothing where there are none."""
        return [[(pair.question, ids) for pair, ids in self.negatives]] if self.negatives else []

    def examples(self, method: Method) -> list[Example]:
        """The triplets on the method's span, with their soft labels and the plain answer to the same question; then negatives."""
        answers = [self.rejected.get((t.pair.id, t.completion.seed)) for t in self.triplets]
        aligned, unchanged = aligned_on(self, method.span)
        positives = [Example(*row) for row in zip(aligned, (t.trait for t in self.triplets), answers, strict=True)]
        return [*positives, *map(Example, unchanged)]


@remembered(128)
def aligned_on(material: Material, span: Span) -> tuple[list[AlignedTokens], list[AlignedTokens]]:
    """Every triplet and every negative aligned, once for all methods on a span."""
    from psr.lm.alignment import align, align_plain

    tokenizer = material.lm.tokenizer
    triplets = [align(tokenizer, t.pair, t.completion.token_ids, span) for t in material.triplets]
    return triplets, [align_plain(tokenizer, pair.plain, ids, span) for pair, ids in material.negatives]


@remembered(64)
def material_of(attribute: str, complete: Path, select: Path, model: ModelSettings) -> Material:
    """Read once for all modules of an attribute."""
    rejected = {(pair.id, c.seed): c.token_ids for pair, c in plain_answers(complete, attribute)}
    return Material(
        attribute, triplets_by_attribute(complete, select, attribute)[attribute], rejected, open_model(model)
    )


@dataclass(frozen=True)
class Fit:
    """One module to fit: its settings, its id (a hash of what it is made from) and where it lies in the output.

    code: a hash of the package that the method comes from, where it is not psr's own. fits_likelihoods: as its Learning says.
    """

    material: Material
    method: Method
    layers: tuple[int, ...]
    settings: FitSettings | None
    seed: int | None
    code: str = ""
    fits_likelihoods: bool = False

    @property
    def id(self) -> str:
        settings = asdict(self.settings) if self.settings else {}
        if not settings.get("keep"):
            settings.pop("keep", None)  # unset it changes nothing, and modules from before it existed keep their ids
        sources = [t.id for t in self.material.triplets]
        return short_hash(
            "module", VERSION, self.material.attribute, self.method.slug, self.layers, settings, sources,
            self.material.lm.fingerprint, *([self.code] if self.code else []), *self.material.unchanged,
        )  # fmt: skip

    @property
    def origin(self) -> dict[str, Any]:
        triplets = short_hash(*[t.id for t in self.material.triplets])
        return {
            "attribute": self.material.attribute, "method": self.method.slug, "triplets": triplets, "version": VERSION
        }  # fmt: skip

    @property
    def home(self) -> Path:
        """`modules/persona-pirate/a-psr-mse-qr/seed-7`."""
        seed = "" if self.seed is None else f"seed-{self.seed}"
        return Path("modules") / self.material.attribute.replace("/", "-") / self.method.slug / seed

    def write(self, folder: Path, module: SteeringModule, curve: tuple[CurvePoint, ...]) -> None:
        """Its row, its training curve, its folder."""
        from psr.steering.module import save_module

        save_module(replace(module, base=self.material.lm.name), folder / self.home)
        write_curves(folder / "curves.parquet", {module.id: curve})
        row = {
            "id": module.id, "attribute": self.material.attribute, "method": self.method.slug, **asdict(self.method),
            "layer": self.layers[0] if self.method.scope == "S" else None, "seed": self.seed,
            "triplets": len(self.material.triplets), "folder": self.home.as_posix(), "model": module.model,
            "fits_likelihoods": self.fits_likelihoods,
        }  # fmt: skip
        write_table(folder / "modules.parquet", "modules", [row])


def joint_groups(
    members: Sequence[Member], method: MethodPlug, extract: Path, budget: int = BUDGET
) -> list[list[Member]]:
    """The members cut into groups that are fitted together: of methods that can be, whose targets fit `budget` bytes."""
    if method.learning.learn_many is None:
        return [[member] for member in members]
    reads = INSTRUCTED in method.learning.reads
    groups: list[list[Member]] = []
    for member in members:
        held = {attribute for attribute, _ in [*(groups[-1] if groups else []), member]}
        needed = sum(held_bytes(extract, recording(a, INSTRUCTED)) for a in held) if reads else 0
        if groups and needed <= budget and len(groups[-1]) < TOGETHER:
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def distill_modules(
    members: Sequence[Member],
    method: MethodPlug,
    sources: Sources,
    layer: int,
    settings: Mapping[str, Any],
    package: Mapping[str, Any],
) -> list[Path]:
    """Fit the members' modules by one method, with what params.yaml and the benchmark's package set.

    Returns their cells, in order: a row, a training curve, a folder each.
    """
    fits = [_fit_of(attribute, seed, method, sources, layer, settings, package) for attribute, seed in members]
    index, reads = read_index(sources.extract), bool(method.learning.reads)
    less = (index["keep"],) if reads and index.get("keep") in ("8bit", "none") else ()  # they change what is fitted to
    keys = [(sources.model.reads, fit.id, fit.material.content, index["dtype"], *less) for fit in fits]
    todo = [(fit, key) for fit, key in zip(fits, keys, strict=True) if sources.cells.find("modules", key) is None]
    for (fit, key), fitted in zip(todo, _fitted([fit for fit, _ in todo], method, sources), strict=True):
        if isinstance(fitted, PsrError):
            raise fitted
        if fitted.dead:
            say(f"warning: {fit.method.name} for {fit.material.attribute} is dead: no gate opens on any training token")
        module = fitted.module
        if less == ("8bit",):
            module = replace(module, origin={**module.origin, "targets": "8bit"})
        sources.cells.keep("modules", key, partial(fit.write, module=module, curve=fitted.curve))
    return [sources.cells.keep("modules", key, _gone) for key in keys]


def _fit_of(
    attribute: str,
    seed: int | None,
    method: MethodPlug,
    sources: Sources,
    layer: int,
    settings: Mapping[str, Any],
    package: Mapping[str, Any],
) -> Fit:
    material = material_of(attribute, sources.complete, sources.select, sources.model)
    layers = (layer,) if method.method.scope == "S" else tuple(range(material.lm.n_layers))
    own = fit_settings(method, {**settings, "seed": seed}, package)
    code = plug_code([method.path]).get(method.path, "")
    return Fit(material, method.method, layers, own, seed, code, method.learning.fits_likelihoods)


def _fitted(fits: Sequence[Fit], method: MethodPlug, sources: Sources) -> Iterable[Fitted | PsrError]:
    """The modules, jointly where there are several."""
    if not fits:
        return []
    epochs = fits[0].settings.epochs if fits[0].settings else 0
    names = sorted({fit.material.attribute for fit in fits})
    examples = {fit.material.attribute: fit.material.examples(fit.method) for fit in fits}
    total = epochs * sum(len(examples[fit.material.attribute]) for fit in fits)
    count = f", {len(fits)} modules" if len(fits) > 1 else ""
    with progress(f"distill {' '.join(names)} {method.method.name}{count}", total, "examples") as advance:
        if len(fits) == 1:
            return [_alone(fits[0], examples[names[0]], method, sources, advance)]
        held = None
        if INSTRUCTED in method.learning.reads:
            some = {fit.material.attribute: fit for fit in fits}
            held = {name: _instructed(some[name], own, method, sources) for name, own in examples.items()}
        return _jointly(fits, examples, method, held, advance)


def _alone(
    fit: Fit, examples: list[Example], method: MethodPlug, sources: Sources, progress: Callable[[int], None]
) -> Fitted | PsrError:
    from psr.fitting.learning import learn
    from psr.lm.recording import Targets
    from psr.steering.module import SteeringModule

    targets = _instructed(fit, examples, method, sources) if INSTRUCTED in method.learning.reads else None
    plain = _plain(fit, method, sources) if PLAIN in method.learning.reads else None
    if not isinstance(targets, Targets | None):
        name = fit.material.attribute
        return _jointly([fit], {name: examples}, method, {name: targets}, progress)[0]
    fitted = learn(
        fit.material.lm, examples, method, fit.layers, fit.settings, targets=targets, plain=plain, module_id=fit.id,
        origin=fit.origin, progress=progress,
    )  # fmt: skip
    if not isinstance(fitted.module, SteeringModule):
        raise PsrError("this method changes the model's weights, not its activations", got=fit.method.slug,
                       do="`psr.learn` fits it.")  # fmt: skip
    return fitted


def _instructed(fit: Fit, examples: Sequence[Example], method: MethodPlug, sources: Sources) -> Store:
    """A[l, i | x' y'] on the method's span: what the cache keeps, or else recorded now, and if that needs too much memory
    computed again at each step. Only a method that gradients fit is handed anything but Targets."""
    from psr.fitting.stores import targets_within

    attribute, lm, span = fit.material.attribute, fit.material.lm, fit.method.span
    recorded = read_targets(sources.extract, recording(attribute, INSTRUCTED))
    by_gradients = method.learning.learn_many is not None
    if recorded is not None:
        own = recorded.last([example.tokens.length for example in examples], span)
        return own if by_gradients else _in_full(own)
    layers = method.learning.layers_read(fit.layers, lm.n_layers)
    if by_gradients and held_bytes(sources.extract, recording(attribute, INSTRUCTED)) > BUDGET:
        return targets_within(lm, examples, layers, span, budget=0)
    ids = [example.tokens.instructed_ids for example in examples]
    return _run((ids, [example.tokens.instructed_start for example in examples]), layers, span, lm, sources)


def _plain(fit: Fit, method: MethodPlug, sources: Sources) -> Targets:
    """A[l, i | x y] of the model's own plain answers on R: what the cache keeps, or else recorded now."""
    attribute, lm = fit.material.attribute, fit.material.lm
    recorded = read_targets(sources.extract, recording(attribute, PLAIN))
    if recorded is not None:
        return _in_full(recorded)
    run = plain_run(lm, plain_answers(sources.complete, attribute))
    return _run(run, method.learning.layers_read(fit.layers, lm.n_layers), "R", lm, sources)


def _run(run: Run, layers: range, span: Span, lm: LanguageModel, sources: Sources) -> Targets:
    from psr.lm.devices import DTYPES
    from psr.lm.recording import record

    return record(lm, *run, layers, span=span, dtype=DTYPES[read_index(sources.extract)["dtype"]])


def _in_full(recorded: Targets | EightBit) -> Targets:
    from psr.lm.recording import Targets

    return recorded if isinstance(recorded, Targets) else recorded.in_full()


def _jointly(
    fits: Sequence[Fit],
    examples: Mapping[str, list[Example]],
    method: MethodPlug,
    held: Mapping[str, Store] | None,
    progress: Callable[[int], None],
) -> list[Fitted | PsrError]:
    """held: attribute -> the instructed runs, where the method reads them."""
    first, learning = fits[0], method.learning
    if learning.learn_many is None:
        raise PsrError("this method learns one module at a time", got=first.method.slug)
    targets = held and {fit.id: held[fit.material.attribute] for fit in fits}
    fitted = learning.learn_many(
        first.material.lm, {fit.id: examples[fit.material.attribute] for fit in fits}, first.method, first.layers,
        first.settings, targets=targets, seeds={fit.id: fit.seed or 0 for fit in fits},
        origins={fit.id: fit.origin for fit in fits}, progress=progress,
    )  # fmt: skip
    return [fitted[fit.id] for fit in fits]


def fit_settings(method: MethodPlug, changes: Mapping[str, Any], package: Mapping[str, Any]) -> FitSettings | None:
    """The preset with what params.yaml changes of it, and the benchmark's package; None for methods without training."""
    return method.learning.settings(changes["preset"], changes, package)


def gather_modules(cells: Sequence[Path], out: Path) -> None:
    """Every cell's module folder beside the gathered tables."""
    for cell in cells:
        copy(cell / "modules", out / "modules")


def _gone(_: Path) -> None:
    raise PsrError("a finished part was removed while it was needed", where=".psr/cells", do="Run again.")
