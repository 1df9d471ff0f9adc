"""The speed of fitting: against the transformer's own cost, against the paper's loop, and layer by layer."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from psr.fitting.methods import parse_method
from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import Ratio, Run, alternate, ratio

if TYPE_CHECKING:
    from psr.fitting.presets import FitSettings
    from tasks.studies.bench.material import Material

TRIPLETS = 64  # two batches of the fast preset
EPOCHS_BY_LAYER = 3
SPARE = 0.1  # of an epoch at layer 0: what does not fall with the layer (batches, targets, the optimiser)


def fit_speed(material: Material) -> list[Figure]:
    """All layers by MSE with the fast preset, targets recorded and everything else included, beside its two yardsticks."""
    from psr.fitting.loop import pose
    from psr.fitting.presets import FAST_MSE, PAPER_MSE
    from psr.fitting.yardsticks import batches_of_epoch, floor_epochs, paper_loop

    lm, method, layers = material.lm, parse_method("a-psr-mse-qr"), tuple(range(material.lm.n_layers))
    examples = material.examples(method, TRIPLETS)
    batches = batches_of_epoch(pose(lm, examples, method, layers, FAST_MSE, None))
    runs: list[Run] = [
        partial(_fit, material, examples),
        partial(floor_epochs, lm, batches, FAST_MSE.epochs),
        partial(paper_loop, lm, examples, method, layers, PAPER_MSE),
    ]
    seconds = material.seconds(runs, warm_up=False)
    seen = len(examples) * FAST_MSE.epochs
    return _compared(
        *([each / n for each in some] for some, n in zip(seconds, (seen, seen, len(examples)), strict=True))
    )


def _compared(fitted: list[float], alone: list[float], looped: list[float]) -> list[Figure]:
    """Seconds for each triplet seen, by the fit, by the frozen model alone and by the paper's loop."""
    what = "fitting A-PSR MSE, fast preset, targets included: triplets/s"
    fit_ms, alone_ms, loop_ms = (1000 * median(some) for some in (fitted, alone, looped))
    return [
        Figure(
            "fit-floor",
            what,
            "one forward + backward of the frozen model, the same batches: triplets/s",
            ratio(alone, fitted),
            Goal(0.85),
            f"{fit_ms:.1f} against {alone_ms:.1f} ms for each triplet seen",
        ),
        Figure(
            "fit-paper",
            what,
            "the paper's loop, batch 1, targets recomputed each step: triplets/s",
            ratio(looped, fitted),
            Goal(5),
            f"{fit_ms:.1f} against {loop_ms:.1f} ms for each triplet seen; speed alone, TA is the reproduction's",
        ),
    ]


def fit_layers(material: Material) -> list[Figure]:
    """S-PSR at every layer: seconds of an epoch after the first (in which the frozen layers below are run once)."""
    from psr.fitting.presets import FAST_MSE
    from psr.lm.recording import record

    lm, method = material.lm, parse_method("s-psr-mse-qr")
    examples, settings = material.examples(method, TRIPLETS), replace(FAST_MSE, epochs=EPOCHS_BY_LAYER)
    tokens = [example.tokens for example in examples]
    targets = record(
        lm, [t.instructed_ids for t in tokens], [t.instructed_start for t in tokens], range(lm.n_layers), span="QR"
    )
    epochs: list[list[float]] = [[] for _ in range(lm.n_layers)]

    def one(layer: int) -> None:
        epochs[layer].append(_later_epochs(material, examples, settings, layer, targets))

    one_each = [partial(one, layer) for layer in range(lm.n_layers)]
    alternate(one_each, material.repeats, advance=material.advance, warm_up=False)
    return [
        _layer(layer, lm.n_layers, ratio(epochs[layer], epochs[0]), epochs[layer]) for layer in range(1, lm.n_layers)
    ]


def _layer(layer: int, layers: int, found: Ratio, seconds: list[float]) -> Figure:
    """Blocks layer + 1 … last are run forwards and backwards; at layer 0 all but the first are."""
    goal = (layers - 1 - layer) / (layers - 1) + SPARE
    return Figure(
        f"fit-layer-{layer}",
        f"an epoch of S-PSR MSE at layer {layer}: seconds",
        "the same at layer 0: seconds",
        found,
        Goal(round(goal, 3), at_least=False),
        f"{1000 * median(seconds):.0f} ms an epoch of {TRIPLETS} triplets",
    )


def _later_epochs(material: Material, examples: list[Any], settings: FitSettings, layer: int, targets: Any) -> float:
    """Seconds an epoch from the end of the first one on."""
    from psr.fitting.loop import fit
    from tasks.studies.bench.material import settle

    ends: list[float] = []
    seen = 0

    def note(n: int) -> None:
        nonlocal seen
        seen += n
        if seen % len(examples) == 0:
            settle(material.lm.device)
            ends.append(time.perf_counter())

    fit(
        material.lm,
        examples,
        parse_method("s-psr-mse-qr"),
        (layer,),
        settings,
        targets=targets,
        module_id="bench",
        progress=note,
    )
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def _fit(material: Material, examples: list[Any]) -> None:
    from psr.fitting.loop import fit
    from psr.fitting.presets import FAST_MSE

    fit(
        material.lm,
        examples,
        parse_method("a-psr-mse-qr"),
        tuple(range(material.lm.n_layers)),
        FAST_MSE,
        module_id="bench",
    )
