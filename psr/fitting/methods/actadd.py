"""ActAdd: constant steering with the difference of a single pair, at the last prompt token.

    z[l] = A[l | x'_p] − A[l | x_p]

Turner et al. 2023, "Activation Addition: Steering Language Models Without Optimization", arXiv:2308.10248: there the
difference of a whole short prompt is added to the first positions; here its last token's is added on the span, so that
it differs from CAA (the mean over all pairs) in the number of pairs alone.
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


def single_pair(
    instructed: Targets,
    plain: Targets,
    layers: Sequence[int],
    span: Span,
    *,
    module_id: str,
    pair: int = 0,
    origin: Mapping[str, Any] | None = None,
) -> SteeringModule:
    """A Const module from pair number `pair` of recordings of last prompt tokens (`prompt_ends`), one token a sequence.

    Raises PsrError when there is no such pair or the recordings do not fit each other.
    """
    ordered = check_pairs(instructed, plain, layers)
    if not 0 <= pair < len(instructed):
        raise PsrError("no such pair", where="pair", expected=f"0 to {len(instructed) - 1}", got=pair)
    sides = [
        [side.sequence(pair)[side.layers.index(layer), -1].double() for layer in ordered]
        for side in (instructed, plain)
    ]
    z = [with_it - without for with_it, without in zip(*sides, strict=True)]
    return SteeringModule(
        id=module_id,
        form="Const",
        layers=ordered,
        span=span,
        model=instructed.model,
        tensors={"z": torch.stack(z).float().cpu()},
        origin={**(origin or {}), "pair": pair},
    )


ACTADD = from_prompt_ends(single_pair)
