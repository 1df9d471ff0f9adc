"""How faithfully a module does what the prompt does, with intervals over questions (method section 5, claims 1, 5, 6).

    relative RMSE[l]  = √( Σ_i ‖D[l,i] − Δ_acc[l,i]‖² / Σ_i ‖Δ_acc[l,i]‖² )        Fig. 3; 1 = no steering, 0 = the prompt
    energy share[l,r] = Σ_i ‖V_r V_rᵀ Δ[l,i]‖² / Σ_i ‖Δ[l,i]‖²                     V_r: r leading directions, not centred
    token strength    = ‖Δ[l,i]‖                                                   Fig. 2

i runs over the tokens of all questions together. A bootstrap draws questions, not tokens: figures are computed from sums
per question, [layer, question], and from `counts` [resample, question], how often each was drawn (resampling.py).
The noise floor of the relative RMSE is the same number for another prompt that says the same: x'' y' against x' y'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psr.errors import PsrError
from psr.evaluation.bootstrap import Interval, interval_of
from psr.evaluation.resampling import Array

if TYPE_CHECKING:
    from psr.lm.recording import Targets

RANKS = (1, 2, 4, 8, 16)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def per_question(values: Tensor, offsets: Sequence[int]) -> Array:
    """Sums over the tokens of each question. values: [..., token]; offsets as in Targets. Returns [..., question], fp64."""
    return np.add.reduceat(values.double().cpu().numpy(), np.asarray(offsets[:-1]), axis=-1)


def squared_errors(run: Targets, instructed: Targets) -> Array:
    """Σ_i ‖A_run − A[· | x' y']‖² = Σ_i ‖D − Δ_acc‖², [layer, question]; with the plain run as `run`, Σ_i ‖Δ_acc‖².

    Raises PsrError for runs on different tokens, layers or models.
    """
    if (run.offsets, run.layers, run.model) != (instructed.offsets, instructed.layers, instructed.model):
        raise PsrError(
            "two runs were not taken at the same tokens",
            expected=f"{instructed.offsets[-1]} tokens of layers {instructed.layers} of model {instructed.model}",
            got=f"{run.offsets[-1]} of {run.layers} of {run.model}",
        )
    return per_question((run.values - instructed.values).square().sum(dim=-1), run.offsets)


def ratio(part: Array, total: Array, counts: Array) -> Array:
    """Σ_q part / Σ_q total under each resample. part: [..., layer, question], total: [layer, question] ->
    [resample, ..., layer]; nan where the total is 0."""
    above, below = np.moveaxis(part @ counts.T, -1, 0), np.moveaxis(total @ counts.T, -1, 0)
    below = np.broadcast_to(below.reshape(len(counts), *[1] * (part.ndim - 2), -1), above.shape)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def relative_rmse(errors: Array, energy: Array, counts: Array) -> Array:
    """Relative RMSE [resample, layer] from squared_errors of a run and of the plain run, [layer, question] each."""
    return np.sqrt(ratio(errors, energy, counts))


def intervals(values: Array, samples: Array) -> list[Interval]:
    """An interval per layer. values: [layer] on the data itself; samples: [resample, layer]."""
    return [interval_of(float(value), samples[:, layer]) for layer, value in enumerate(values)]


def directions(delta: Tensor, r: int) -> Tensor:
    """The r leading directions of Δ (at most d), unit length, signed to agree with its mean. delta: [layer, token, d].

    Not centred: Assumption 3.1 is about Δ itself. Returns [layer, min(r, d), d] fp64.
    """
    delta = delta.double()
    vectors = torch.linalg.eigh(delta.transpose(1, 2) @ delta).eigenvectors.flip(-1)[..., :r].transpose(1, 2)
    along = (vectors @ delta.sum(dim=1).unsqueeze(-1)).squeeze(-1)
    return torch.where(along < 0, -1.0, 1.0).unsqueeze(-1) * vectors


def energy_along(delta: Tensor, vectors: Tensor, offsets: Sequence[int], ranks: Sequence[int] = RANKS) -> Array:
    """Energy of Δ along the first r of `vectors` [layer, max(ranks) or d, d], for each r. Returns [rank, layer, question]."""
    along = (delta.double() @ vectors.transpose(1, 2)).square().cumsum(dim=-1)
    return np.stack([per_question(along[..., min(r, along.shape[-1]) - 1], offsets) for r in ranks])


def energy(delta: Tensor, offsets: Sequence[int]) -> Array:
    """Σ_i ‖Δ[l,i]‖², [layer, question]."""
    return per_question(delta.double().square().sum(dim=-1), offsets)


def quantiles(strengths: Array, question: NDArray[Any], counts: Array, levels: Sequence[float] = QUANTILES) -> Array:
    """Quantiles of token strengths under each resample: the smallest strength that a share of at least `level` of the
    tokens does not exceed. strengths: [token]; question: [token], index of its question. Returns [resample, level]."""
    order = np.argsort(strengths, kind="stable")
    reached = counts[:, question[order]].cumsum(axis=1)
    needed = np.asarray(levels) * reached[:, -1:]
    rows = [
        np.searchsorted(row, need - 1e-9) for row, need in zip(reached, needed, strict=True)
    ]  # the first to reach it
    return strengths[order][np.stack(rows)]


def spread(strengths: Array, question: NDArray[Any], counts: Array) -> Array:
    """The 99th over the 1st percentile of token strengths, [resample]; nan where the 1st is 0."""
    low, high = quantiles(strengths, question, counts, (0.01, 0.99)).T
    return np.divide(high, low, out=np.full(low.shape, np.nan), where=low > 0)
