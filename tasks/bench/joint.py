"""The speed of fitting many attributes in one pass, against the transformer's own cost of the same tokens."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from psr.methods import parse_method
from tasks.bench.figures import Figure, Goal
from tasks.bench.pairs import Run, ratio

if TYPE_CHECKING:
    from psr.types import Example, Method
    from tasks.bench.material import Material

ATTRIBUTES, TRIPLETS = 16, 12


def joint_fitting(material: Material) -> list[Figure]:
    """16 attributes' A-PSR modules by MSE in one pass, targets included, against one forward + backward of all their tokens."""
    from psr.joint import fit_many
    from psr.presets import FAST_MSE
    from psr.problem import pose
    from psr.yardsticks import batches_of_epoch, floor_epochs

    lm, method, layers = material.lm, parse_method("a-psr-mse-qr"), tuple(range(material.lm.n_layers))
    examples, settings = attributes(material, method), FAST_MSE
    every = [example for some in examples.values() for example in some]
    batches = batches_of_epoch(pose(lm, every, method, layers, settings, None))
    runs: list[Run] = [partial(fit_many, lm, examples, method, layers, settings), partial(floor_epochs, lm, batches, settings.epochs)]
    fitted, alone = material.seconds(runs, warm_up=False)
    seen = settings.epochs * len(every) / 1000
    note = f"{median(fitted) / seen:.1f} against {median(alone) / seen:.1f} ms for each triplet seen; {ATTRIBUTES} × {TRIPLETS} triplets"
    return [Figure("fit-joint", f"fitting A-PSR MSE for {ATTRIBUTES} attributes in one pass, targets included: seconds",
                   "one forward + backward of the frozen model, the same tokens: seconds", ratio(fitted, alone),
                   Goal(1.15, at_least=False), note)]


def attributes(material: Material, method: Method) -> dict[str, list[Example]]:
    """16 sets of triplets, from the profile's attributes in turn: for speed it is enough that each has a module of its own."""
    keys = sorted(material.triplets)
    known = {key: material.examples(method, len(material.triplets[key]), key) for key in keys}
    sets = {}
    for i in range(ATTRIBUTES):
        some, first = known[keys[i % len(keys)]], TRIPLETS * (i // len(keys))
        sets[f"{keys[i % len(keys)]} {i}"] = [some[(first + k) % len(some)] for k in range(TRIPLETS)]
    return sets
