"""PCA: constant steering along the first principal direction of the pairs' differences D_i = A[l | x'_i] − A[l | x_i].

    v = argmax_{‖v‖=1} Var_i(D_i · v)        z = v · mean_i(D_i · v)

As vgel/repeng does (method `pca_diff`, a centred PCA; after Zou et al. 2023, arXiv:2310.01405), at the last prompt token
of each pair. The mean of D signs v; with `scaled` it also gives z its length, so that α = 1 adds what the prompt adds
along v (repeng leaves v at unit length). `centred=False` takes the leading direction of D itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from psr.fitting.methods.pairs import check_pairs, from_prompt_ends
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from psr.types import Span


def principal_direction(
    instructed: Targets,
    plain: Targets,
    layers: Sequence[int],
    span: Span,
    *,
    module_id: str,
    centred: bool = True,
    scaled: bool = True,
    origin: Mapping[str, Any] | None = None,
) -> SteeringModule:
    """A Const module from paired recordings (`prompt_ends`, or x' y' and x y' on one span). At least two tokens a side.

    Raises PsrError when the recordings are no pairs.
    """
    ordered = check_pairs(instructed, plain, layers, at_least=2)
    z = [_direction(_at(instructed, layer) - _at(plain, layer), centred, scaled) for layer in ordered]
    about = {**(origin or {}), "centred": centred, "scaled": scaled, "pairs": instructed.values.shape[1]}
    return SteeringModule(
        id=module_id,
        form="Const",
        layers=ordered,
        span=span,
        model=instructed.model,
        tensors={"z": torch.stack(z).float().cpu().contiguous()},
        origin=about,
    )


def _at(targets: Targets, layer: int) -> Tensor:
    return targets.values[targets.layers.index(layer)].double()


def _direction(D: Tensor, centred: bool, scaled: bool) -> Tensor:
    """D: [pair, d] fp64. Returns [d]."""
    mean = D.mean(dim=0)
    v = torch.linalg.svd(D - mean if centred else D, full_matrices=False).Vh[0]
    along = v @ mean
    return v * along if scaled else torch.where(along < 0, -v, v)


PCA = from_prompt_ends(principal_direction, at_least=2)
