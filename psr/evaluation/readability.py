"""How well the token strength can be predicted from the activation (Assumption 3.2a), on questions not fitted on.

    λ_i = Δ[l,i] · v[l]                       v: the leading direction of Δ on the fitting questions, unit length
    linear   λ̂_i = A[l,i] · w + b             ridge regression
    gate     λ̂_i = ReLU(A[l,i] · w + b)       Eq. 8, fitted to λ by least squares
    R² = 1 − Σ_i (λ_i − λ̂_i)² / Σ_i (λ_i − mean λ)²

R² is 1 where the activation determines the strength, and at most 0 for one strength on every token (Assumption 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from psr.errors import PsrError
from psr.evaluation.resampling import Array

Reader = Literal["linear", "gate"]
READINGS = (
    ("acc", "plain"),
    ("loc", "plain"),
    ("loc", "below"),
)  # fields of psr.evaluation.delta.Contrast: whose λ, predicted from which run
RIDGE = 0.03  # times the activations' mean variance; like STEPS, chosen on fitting questions alone
STEPS = 5


@dataclass(frozen=True, eq=False)
class ReadOut:
    """A predictor λ̂ per layer: w [layer, d], b [layer], fp64."""

    reader: Reader
    w: Tensor
    b: Tensor

    def __call__(self, A: Tensor) -> Tensor:
        """λ̂ [layer, token] of activations A [layer, token, d]."""
        read = (A.double() @ self.w.unsqueeze(-1)).squeeze(-1) + self.b.unsqueeze(-1)
        return read if self.reader == "linear" else torch.relu(read)


def read_out(A: Tensor, lam: Tensor, reader: Reader, *, ridge: float = RIDGE) -> ReadOut:
    """Fit a read-out per layer. A: [layer, token, d], lam: [layer, token]. Raises PsrError for fewer than two tokens.

    The gate's loss is quadratic while the set of open tokens is fixed: each step solves for the current set (Newton's
    method), starting from the linear read-out; the best step is kept.
    """
    if lam.shape != A.shape[:2] or lam.shape[1] < 2:
        raise PsrError(
            "strengths cannot be read out",
            expected="one per activation, at least two a layer",
            got=f"{list(lam.shape)} for {list(A.shape)}",
        )
    A, lam = A.double(), lam.double()
    linear = ReadOut("linear", *_ridge(A, lam, torch.ones_like(lam), ridge))
    if reader == "linear":
        return linear
    now = best = ReadOut("gate", linear.w, linear.b)
    loss = _loss(best, A, lam)
    for _ in range(STEPS):
        is_open = (now(A) > 0).double()
        now = ReadOut("gate", *_ridge(A, lam, is_open, ridge))
        new = _loss(now, A, lam)
        better = new < loss
        best = ReadOut("gate", torch.where(better.unsqueeze(-1), now.w, best.w), torch.where(better, now.b, best.b))
        loss = torch.minimum(new, loss)
    return best


def _loss(read: ReadOut, A: Tensor, lam: Tensor) -> Tensor:
    """Σ_i (λ − λ̂)², [layer]."""
    return (lam - read(A)).square().sum(dim=-1)


def _ridge(A: Tensor, lam: Tensor, weight: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weighted ridge regression with an unpenalised constant. A: [layer, token, d]; lam, weight: [layer, token]."""
    total = weight.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    centre = (weight.unsqueeze(1) @ A).squeeze(1) / total
    height = (weight * lam).sum(dim=-1, keepdim=True) / total
    X = (A - centre.unsqueeze(1)) * weight.unsqueeze(-1)
    squares = X.transpose(1, 2) @ (A - centre.unsqueeze(1))
    size = squares.diagonal(dim1=1, dim2=2).mean(dim=-1).clamp_min(1e-12)
    squares = squares + torch.diag_embed((ridge * size).unsqueeze(-1).expand(-1, A.shape[-1]))
    # positive definite; LU of a batch this wide fails in MKL on two threads ("Pivots given to lu_solve", torch 2.13)
    moments = (X * (lam - height).unsqueeze(-1)).sum(dim=1, keepdim=True).transpose(1, 2)
    w = torch.cholesky_solve(moments, torch.linalg.cholesky(squares)).squeeze(-1)
    return w, height.squeeze(-1) - (w * centre).sum(dim=-1)


def r_squared(errors: Array, first: Array, second: Array, tokens: Array, counts: Array) -> Array:
    """R² [resample, layer] from sums per question. errors: Σ (λ − λ̂)², first: Σ λ, second: Σ λ², [layer, question] each;
    tokens: [question]; counts: [resample, question]. nan where λ does not vary."""
    residual, total, squares = (counts @ sums.T for sums in (errors, first, second))
    varies = squares - total**2 / (counts @ tokens)[:, np.newaxis]
    return 1 - np.divide(residual, varies, out=np.full(varies.shape, np.nan), where=varies > 1e-12 * squares)
