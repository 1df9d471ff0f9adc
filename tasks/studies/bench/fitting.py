"""The speed of fitting, against a forward and backward of the model and the paper's loop, by layer, and for many modules.

Also the loss of the 8-bit store of targets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

import psutil
import torch

from psr.errors import PsrError
from psr.fitting.joint import fit_many
from psr.fitting.loop import batch_loss, fit, pose
from psr.fitting.losses import normalised
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE, PAPER_MSE, FitSettings
from psr.fitting.problem import MEASURING_BATCH, Problem
from psr.fitting.stores import Store, in_eight_bits
from psr.fitting.yardsticks import batches_of_epoch, floor_epochs, paper_loop
from psr.lm.models import LanguageModel
from psr.lm.recording import Targets, record
from psr.steering.module import SteeringModule
from psr.types import Example, Method
from tasks.studies.bench.material import Material, settle
from tasks.studies.bench.pairs import Figure, Run, ratio

EVERY, ONE = parse_method("a-psr-mse-qr"), parse_method("s-psr-mse-qr")
TRIPLETS = 64  # two batches of the fast preset
EPOCHS_OF_LARGE = 6  # of a fit of a large model
EPOCHS_BY_LAYER = 3
SPARE = 0.1  # of an epoch at layer 0: the part that does not depend on the layer (batches, targets, the optimiser)
SETS, TRIPLETS_OF_SET = 16, 12  # attributes fitted in one pass
MODULES, EPOCHS = 500, 5  # a third of the preset's epochs, so that recording the targets counts for three times as much


def fit_speed(material: Material) -> Iterator[Figure]:
    """Fitting all layers by MSE with the fast preset, recording included, against its two yardsticks; and its steps alone."""
    lm, layers, examples = material.lm, material.layers, material.examples(EVERY, TRIPLETS)
    settings = replace(FAST_MSE, epochs=EPOCHS_OF_LARGE) if material.large else FAST_MSE
    epochs: list[float] = []
    runs: list[Run] = [
        lambda: epochs.append(_later_epoch(lm, examples, EVERY, layers, settings)),
        floor(lm, examples, settings),
        partial(paper_loop, lm, examples, EVERY, layers, PAPER_MSE),
    ]
    seconds = material.seconds(runs, warm_up=False)
    seen = len(examples) * settings.epochs, len(examples) * settings.epochs, len(examples)
    fitted, alone, looped = ([1000 * s / n for s in times] for times, n in zip(seconds, seen, strict=True))
    steps = [1000 * s / len(examples) for s in epochs]
    what, unit = (
        f"fitting A-PSR MSE, {settings.epochs} epochs, targets included: triplets/s",
        "ms for each triplet seen",
    )
    against = "one forward + backward of the frozen model, the same batches: triplets/s"
    yield Figure(
        "fit-step",
        "a step of fitting A-PSR MSE: triplets/s",
        against,
        ratio(alone, steps),
        f"{median(steps):.1f} against {median(alone):.1f} {unit}",
        at_least=0.85,
    )
    yield Figure(
        "fit-floor",
        what,
        against,
        ratio(alone, fitted),
        f"{median(fitted):.1f} against {median(alone):.1f} {unit}",
        at_least=0.76 if material.large else 0.85,
    )
    yield Figure(
        "fit-paper",
        what,
        "the paper's loop, batch 1, targets recomputed each step: triplets/s",
        ratio(looped, fitted),
        f"{median(fitted):.1f} against {median(looped):.1f} {unit}; speed alone, TA is the reproduction's",
        at_least=None if material.large else 5,  # a large model is as quick with one row as with many
    )


def floor(lm: LanguageModel, examples: Sequence[Example], settings: FitSettings) -> Run:
    """One forward and backward of the frozen model on the batches of a fit, for as many epochs."""
    batches = batches_of_epoch(pose(lm, examples, EVERY, tuple(range(lm.n_layers)), settings, None))
    return partial(floor_epochs, lm, batches, settings.epochs)


def fit_layers(material: Material) -> Iterator[Figure]:
    """S-PSR at every layer: seconds of an epoch after the first, which also runs the frozen layers below.

    Blocks layer + 1 … last run forwards and backwards; at layer 0 all but the first do.
    """
    lm, examples = material.lm, material.examples(ONE, TRIPLETS)
    ids, starts = zip(*((e.tokens.instructed_ids, e.tokens.instructed_start) for e in examples), strict=True)
    targets = record(lm, ids, starts, range(lm.n_layers), span="QR")
    epochs: list[list[float]] = [[] for _ in range(lm.n_layers)]

    settings = replace(FAST_MSE, epochs=EPOCHS_BY_LAYER)

    def run(layer: int) -> None:
        epochs[layer].append(_later_epoch(lm, examples, ONE, (layer,), settings, targets))

    material.seconds([partial(run, layer) for layer in range(lm.n_layers)], warm_up=False)
    last = lm.n_layers - 1
    for layer in range(1, lm.n_layers):
        yield Figure(
            f"fit-layer-{layer}",
            f"an epoch of S-PSR MSE at layer {layer}: seconds",
            "the same at layer 0: seconds",
            ratio(epochs[layer], epochs[0]),
            f"{1000 * median(epochs[layer]):.0f} ms an epoch of {TRIPLETS} triplets",
            at_most=round((last - layer) / last + SPARE, 3),
        )


def _later_epoch(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    targets: Targets | None = None,
) -> float:
    """Mean seconds of the epochs of a fit after the first."""
    ends: list[float] = []
    seen = 0

    def note(n: int) -> None:
        nonlocal seen
        seen += n
        if seen % len(examples) == 0:
            settle(lm.device)
            ends.append(time.perf_counter())

    fit(lm, examples, method, layers, settings, targets=targets, module_id="bench", progress=note)
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def joint_fitting(material: Material) -> Iterator[Figure]:
    """16 attributes' A-PSR modules by MSE in one pass, targets included, against one forward + backward of all their tokens."""
    lm, layers, examples = material.lm, material.layers, sets(material)
    every = [example for group in examples.values() for example in group]
    runs: list[Run] = [partial(fit_many, lm, examples, EVERY, layers, FAST_MSE), floor(lm, every, FAST_MSE)]
    fitted, alone = material.seconds(runs, warm_up=False)
    fit_ms, alone_ms = (1000 * median(times) / (FAST_MSE.epochs * len(every)) for times in (fitted, alone))
    yield Figure(
        "fit-joint",
        f"fitting A-PSR MSE for {SETS} attributes in one pass, targets included: seconds",
        "one forward + backward of the frozen model, the same tokens: seconds",
        ratio(fitted, alone),
        f"{fit_ms:.1f} against {alone_ms:.1f} ms for each triplet seen; {SETS} × {TRIPLETS_OF_SET} triplets",
        at_most=1.15,
    )


def many_modules(material: Material) -> Iterator[Figure]:
    """500 modules in one pass, on the concepts' (or else all) triplets, with a seed each; and their memory."""
    lm, layers, settings = material.lm, material.layers, replace(FAST_MSE, epochs=EPOCHS)
    groups = list(sets(material, "axbench/").values())
    examples = {f"module {i}": groups[i % len(groups)] for i in range(MODULES)}
    seeds = {name: i for i, name in enumerate(examples)}
    process = psutil.Process()
    before, held = process.memory_info().rss, []

    def note(_: int) -> None:
        held.append(process.memory_info().rss)

    fit_all = partial(fit_many, lm, examples, EVERY, layers, settings, seeds=seeds, progress=note)
    runs: list[Run] = [fit_all, floor(lm, [example for group in groups for example in group], settings)]
    fitted, alone = material.seconds(runs, warm_up=False)
    seen = EPOCHS * TRIPLETS_OF_SET
    each, each_alone = [s / (seen * MODULES) for s in fitted], [s / (seen * len(groups)) for s in alone]
    yield Figure(
        "fit-500",
        f"fitting {MODULES} A-PSR MSE modules in one pass, targets included: seconds a triplet seen",
        "one forward + backward of the frozen model: seconds a triplet",
        ratio(each, each_alone),
        f"{1000 * median(each):.1f} against {1000 * median(each_alone):.1f} ms for each triplet seen; "
        f"{median(fitted):.0f} s in all, {max(held) / 1e9:.2f} GB resident after its steps, {before / 1e9:.2f} before; "
        f"{EPOCHS} epochs of {TRIPLETS_OF_SET} triplets",
    )


def sets(material: Material, benchmark: str = "") -> dict[str, list[Example]]:
    """name -> triplets, 16 sets from the profile's attributes in turn; each set gets its own module.

    benchmark: prefix of the attributes to use, if the profile has such.
    """
    keys = sorted(key for key in material.triplets if key.startswith(benchmark)) or sorted(material.triplets)
    by_attribute = {key: material.examples(EVERY, attribute=key) for key in keys}
    groups = {}
    for i in range(SETS):
        key, first = keys[i % len(keys)], TRIPLETS_OF_SET * (i // len(keys))
        groups[f"{key} {i}"] = [by_attribute[key][(first + k) % len(by_attribute[key])] for k in range(TRIPLETS_OF_SET)]
    return groups


def eight_bits(material: Material) -> Iterator[Figure]:
    """A-PSR by MSE fitted on full and on 8-bit targets, a seed a pair: the objective left, on the full targets."""
    lm, layers, examples = material.lm, material.layers, material.examples(EVERY, TRIPLETS)
    problem = normalised(pose(lm, examples, EVERY, layers, FAST_MSE, None))
    full = problem.targets
    if not isinstance(full, Targets):
        raise PsrError("the targets do not fit in memory in full", expected="a smaller model", got=type(full).__name__)
    small = in_eight_bits(full)

    def left(targets: Store, seed: int) -> float:
        settings = replace(FAST_MSE, seed=seed)
        return objective(problem, fit(lm, examples, EVERY, layers, settings, targets=targets, module_id="bench").module)

    after_small, after_full = [], []
    for repeat in range(material.repeats):
        after_small.append(left(small, FAST_MSE.seed + repeat))
        after_full.append(left(full, FAST_MSE.seed + repeat))
        material.advance(1)
    share = (small.codes.nbytes + small.scale.nbytes) / full.values.nbytes
    yield Figure(
        "store-8-bit",
        "A-PSR MSE fitted on targets in 8 bits: the objective left",
        "fitted on targets in full: the same",
        ratio(after_small, after_full),
        f"{share:.3f} of the bytes; the objective left is {median(after_small):.5f} against {median(after_full):.5f} "
        f"of the unsteered MSE; {len(examples)} triplets, a seed a pair",
    )


@torch.no_grad()
def objective(problem: Problem, module: SteeringModule) -> float:
    """The module's mean objective over the problem's examples, without gradients."""
    params = {name: tensor.to(problem.lm.device) for name, tensor in module.tensors.items()}
    total = 0.0
    for rows in problem.data.length.argsort(stable=True).split(MEASURING_BATCH):
        _, parts = batch_loss(problem, problem.data.batch(rows, problem.lm.device), params)
        total += float(parts[1]) * len(rows)
    return total / len(problem.data)
