"""Stolfo et al. 2025, "Improving Instruction-Following in Language Models through Activation Steering", arXiv:2410.12877.

    z = D̄ / ‖D̄‖,  D̄ = mean_i( A[l | x'_i] − A[l | x_i] ) at the last prompt token
    t = mean_i( A[l | x'_i] · z )
    A' = A + α · (t − A · z) · z        every position's projection on z becomes t

Code: microsoft/llm-steer-instruct. The layer is chosen on a validation set, by whoever calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from psr.errors import PsrError
from psr.fitting.methods.pairs import check_pairs, from_prompt_ends
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from psr.types import Span


def projection_to_target(
    instructed: Targets,
    plain: Targets,
    layers: Sequence[int],
    span: Span,
    *,
    module_id: str,
    origin: Mapping[str, Any] | None = None,
) -> SteeringModule:
    """A Proj module from recordings of last prompt tokens (`prompt_ends`). Raises PsrError when the two do not differ."""
    ordered = check_pairs(instructed, plain, layers)
    z, t = [], []
    for layer in ordered:
        A, B = (side.values[side.layers.index(layer)].double() for side in (instructed, plain))
        difference = (A - B).mean(dim=0)
        length = difference.norm()
        if not float(length) > 0:
            raise PsrError(
                "the instruction changes nothing",
                where=f"layer {layer}",
                got="a mean difference of 0",
                expected="instructed runs that differ from the plain ones",
                do="Look at the pairs.",
            )
        z.append(difference / length)
        t.append((A @ z[-1]).mean())
    tensors = {"z": torch.stack(z).float().cpu(), "t": torch.stack(t).float().cpu()}
    return SteeringModule(
        id=module_id,
        form="Proj",
        layers=ordered,
        span=span,
        model=instructed.model,
        tensors=tensors,
        origin={**(origin or {}), "examples": len(instructed)},
    )


STOLFO = from_prompt_ends(projection_to_target)
