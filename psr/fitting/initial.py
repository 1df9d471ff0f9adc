"""The parameters before the first step: random, or with z at the leading directions of what the prompt does.

    Δ_PS[l,i] = A[l,i | x' y'] − A[l,i | x y']                   (Eq. 3)
    Σ_i Δ_i Δ_iᵀ = V S Vᵀ        z_k = ± √(S_k / n) · v_k        the root mean square of Δ along v_k, signed by its mean

Not centred: Assumption 3.1 is about Δ itself, so its mean belongs to it. Beyond the paper, which starts z at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.fitting.problem import Problem
from psr.lm.recording import record
from psr.steering.forms import init_params
from psr.types import Example

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

CHUNK = 64  # examples recorded at a time: only sums are kept


def initial_params(problem: Problem) -> dict[str, Tensor]:
    """Fresh fp32 parameters [layer, *shape] from the settings' seed (`init` says how)."""
    generator = torch.Generator().manual_seed(problem.settings.seed)
    layers, d = len(problem.layers), problem.lm.d_model
    if problem.settings.init == "small":
        return {
            name: 0.01 * torch.randn((layers, *shape), generator=generator) * (name != "b")
            for name, shape in problem.form.shapes(d).items()
        }
    params = init_params(problem.form, layers, d, generator)
    if problem.settings.init == "delta":
        positives = [example for example in problem.examples if not example.negative]
        z = leading_directions(problem.lm, positives, problem.layers, problem.form.rank)
        params["z"] = z.reshape(params["z"].shape).contiguous()
    return params


def leading_directions(lm: LanguageModel, examples: Sequence[Example], layers: Sequence[int], rank: int) -> Tensor:
    """The `rank` leading directions of Δ_PS over the span tokens of `examples`. Returns [layer, rank, d] fp32 on the CPU.

    Both sides are run without steering (Δ_acc). Directions beyond the number of span tokens are 0.
    """
    squares, total, count = _sums(lm, examples, layers)
    values, vectors = torch.linalg.eigh(squares)  # ascending
    values, vectors = values.flip(-1)[:, :rank].clamp_min(0), vectors.flip(-1)[..., :rank].transpose(1, 2)
    along = (vectors @ total.unsqueeze(-1)).squeeze(-1)
    sign = torch.where(along < 0, -1.0, 1.0)
    return ((sign * (values / count).sqrt()).unsqueeze(-1) * vectors).float()


def _sums(lm: LanguageModel, examples: Sequence[Example], layers: Sequence[int]) -> tuple[Tensor, Tensor, int]:
    """Σ Δ Δᵀ [layer, d, d], Σ Δ [layer, d], both fp64, and the number of tokens."""
    d = lm.d_model
    squares = torch.zeros(len(layers), d, d, dtype=torch.float64)
    total, count = torch.zeros(len(layers), d, dtype=torch.float64), 0
    for at in range(0, len(examples), CHUNK):
        tokens = [example.tokens for example in examples[at : at + CHUNK]]
        span = tokens[0].span
        instructed = record(
            lm, [one.instructed_ids for one in tokens], [one.instructed_start for one in tokens], layers, span=span
        )
        plain = record(lm, [one.plain_ids for one in tokens], [one.plain_start for one in tokens], layers, span=span)
        delta = instructed.values.double() - plain.values.double()
        squares += delta.transpose(1, 2) @ delta
        total += delta.sum(dim=1)
        count += delta.shape[1]
    return squares, total, count
