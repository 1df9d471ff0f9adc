"""What the 8-bit store of targets loses: the module fitted on it, judged on the targets in full."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.fitting.methods import parse_method
from tasks.studies.bench.figures import Figure
from tasks.studies.bench.pairs import ratio

if TYPE_CHECKING:
    from psr.fitting.losses import Problem
    from psr.fitting.stores import Store
    from psr.steering.module import SteeringModule
    from tasks.studies.bench.material import Material

TRIPLETS = 64


def eight_bits(material: Material) -> list[Figure]:
    """A-PSR by MSE on targets in full and in 8 bits, a seed a pair: the objective that is left, both against the full ones."""
    from psr.fitting.loop import fit, normalised, pose
    from psr.fitting.presets import FAST_MSE
    from psr.fitting.stores import in_eight_bits
    from psr.lm.recording import Targets

    lm, method, layers = material.lm, parse_method("a-psr-mse-qr"), tuple(range(material.lm.n_layers))
    examples = material.examples(method, TRIPLETS)
    problem = normalised(pose(lm, examples, method, layers, FAST_MSE, None))
    full = problem.targets
    if not isinstance(full, Targets):
        raise PsrError("the targets do not fit in memory in full", expected="a smaller model", got=type(full).__name__)
    small = in_eight_bits(full)

    def fitted(targets: Store, repeat: int) -> float:
        settings = replace(FAST_MSE, seed=FAST_MSE.seed + repeat)
        return objective(
            problem, fit(lm, examples, method, layers, settings, targets=targets, module_id="bench").module
        )

    left: tuple[list[float], list[float]] = ([], [])
    for repeat in range(material.repeats):
        left[0].append(fitted(small, repeat))
        left[1].append(fitted(full, repeat))
        material.advance(1)
    share = small.codes.nbytes + small.scale.nbytes
    note = (
        f"{share / full.values.nbytes:.3f} of the bytes; the objective left is {median(left[0]):.5f} against {median(left[1]):.5f} "
        f"of the unsteered MSE; {len(examples)} triplets, a seed a pair"
    )
    return [
        Figure(
            "store-8-bit",
            "A-PSR MSE fitted on targets in 8 bits: the objective left",
            "fitted on targets in full: the same",
            ratio(*left),
            None,
            note,
        )
    ]


def objective(problem: Problem, module: SteeringModule) -> float:
    """The module's mean objective over the problem's examples, without gradients."""
    import torch

    from psr.fitting.loop import batch_loss
    from psr.fitting.losses import MEASURING_BATCH

    params = {name: tensor.to(problem.lm.device) for name, tensor in module.tensors.items()}
    total = 0.0
    with torch.no_grad():
        for rows in problem.data.length.argsort(stable=True).split(MEASURING_BATCH):
            _, parts = batch_loss(problem, problem.data.batch(rows, problem.lm.device), params)
            total += float(parts[1]) * len(rows)
    return total / len(problem.data)
