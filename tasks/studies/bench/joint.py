"""The speed of fitting many attributes in one pass, against the transformer's own cost of the same tokens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from psr.fitting.methods import parse_method
from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import Run, ratio

if TYPE_CHECKING:
    from psr.types import Example, Method
    from tasks.studies.bench.material import Material

ATTRIBUTES, TRIPLETS = 16, 12
MODULES, EPOCHS = (
    500,
    5,
)  # the scale run: a third of the preset's epochs, on which the recording of the targets weighs three times as much


def joint_fitting(material: Material) -> list[Figure]:
    """16 attributes' A-PSR modules by MSE in one pass, targets included, against one forward + backward of all their tokens."""
    from psr.fitting.joint import fit_many
    from psr.fitting.loop import pose
    from psr.fitting.presets import FAST_MSE
    from psr.fitting.yardsticks import batches_of_epoch, floor_epochs

    lm, method, layers = material.lm, parse_method("a-psr-mse-qr"), tuple(range(material.lm.n_layers))
    examples, settings = attributes(material, method), FAST_MSE
    every = [example for some in examples.values() for example in some]
    batches = batches_of_epoch(pose(lm, every, method, layers, settings, None))
    runs: list[Run] = [
        partial(fit_many, lm, examples, method, layers, settings),
        partial(floor_epochs, lm, batches, settings.epochs),
    ]
    fitted, alone = material.seconds(runs, warm_up=False)
    seen = settings.epochs * len(every) / 1000
    note = f"{median(fitted) / seen:.1f} against {median(alone) / seen:.1f} ms for each triplet seen; {ATTRIBUTES} × {TRIPLETS} triplets"
    return [
        Figure(
            "fit-joint",
            f"fitting A-PSR MSE for {ATTRIBUTES} attributes in one pass, targets included: seconds",
            "one forward + backward of the frozen model, the same tokens: seconds",
            ratio(fitted, alone),
            Goal(1.15, at_least=False),
            note,
        )
    ]


def many_modules(material: Material) -> list[Figure]:
    """500 modules in one pass, the concepts' (else all attributes') triplets under a seed each, and the memory they take."""
    import psutil

    from psr.fitting.joint import fit_many
    from psr.fitting.loop import pose
    from psr.fitting.presets import FAST_MSE
    from psr.fitting.yardsticks import batches_of_epoch, floor_epochs

    lm, method, layers = material.lm, parse_method("a-psr-mse-qr"), tuple(range(material.lm.n_layers))
    settings, sets = replace(FAST_MSE, epochs=EPOCHS), list(attributes(material, method, "axbench/").values())
    given = {f"module {i}": sets[i % len(sets)] for i in range(MODULES)}
    batches = batches_of_epoch(pose(lm, [example for some in sets for example in some], method, layers, settings, None))
    process = psutil.Process()
    before, held = process.memory_info().rss, []
    fit: Run = partial(
        fit_many,
        lm,
        given,
        method,
        layers,
        settings,
        seeds={name: i for i, name in enumerate(given)},
        progress=lambda _: held.append(process.memory_info().rss),
    )
    fitted, alone = material.seconds([fit, partial(floor_epochs, lm, batches, settings.epochs)], warm_up=False)
    seen = settings.epochs * TRIPLETS
    each = [[second / seen / modules for second in some] for some, modules in ((fitted, MODULES), (alone, len(sets)))]
    note = (
        f"{1000 * median(each[0]):.1f} against {1000 * median(each[1]):.1f} ms for each triplet seen; {median(fitted):.0f} s in all, "
        f"{max(held) / 1e9:.2f} GB resident after its steps, {before / 1e9:.2f} before; {EPOCHS} epochs of {TRIPLETS} triplets"
    )
    return [
        Figure(
            "fit-500",
            f"fitting {MODULES} A-PSR MSE modules in one pass, targets included: seconds a triplet seen",
            "one forward + backward of the frozen model: seconds a triplet",
            ratio(*each),
            None,
            note,
        )
    ]


def attributes(material: Material, method: Method, benchmark: str = "") -> dict[str, list[Example]]:
    """16 sets of triplets, from the profile's attributes in turn: for speed it is enough that each has a module of its own.

    benchmark: the beginning of their names, where the profile has such.
    """
    keys = sorted(key for key in material.triplets if key.startswith(benchmark)) or sorted(material.triplets)
    known = {key: material.examples(method, len(material.triplets[key]), key) for key in keys}
    sets = {}
    for i in range(ATTRIBUTES):
        some, first = known[keys[i % len(keys)]], TRIPLETS * (i // len(keys))
        sets[f"{keys[i % len(keys)]} {i}"] = [some[(first + k) % len(some)] for k in range(TRIPLETS)]
    return sets
