"""What a steering module adds to the residual stream, as formulas on tensors.

    A' = A + α · Σ_k λ_k(A) · z_k                      (Eq. 7, over r directions; the paper's forms have r = 1)

    Const    λ ≡ 1                                     (constant steering)
    PSR      λ(A) = ReLU(A · w + b)                    (Eq. 8; ReLU, so that λ can be exactly 0)
    PSRr     λ_k(A) = ReLU(A · w_k + b_k)              r gates and r directions a layer: PSR4, PSR8, …
    Proj     λ(A) = t − A · z                          z unit length, t the target (Stolfo et al. 2025, arXiv:2410.12877)
    LoReFTr  λ_k(A) = A · w_k + b_k − A · z_k          rows z_k orthonormal (Wu et al. 2024, arXiv:2404.03592: R, W, b)

Heyman & Vandeputte, "Steer Like the LLM", ICML 2026, Section 3. Symbols: A residual stream after a block,
z direction, w and b gate, α global strength (`alpha`), λ token strength (`lam`).

A form is a plain function `strength` from activations and one layer's parameters, a row each, to λ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from psr.errors import PsrError

Params = Mapping[str, Tensor]


def _as_they_are(p: Params) -> dict[str, Tensor]:
    """The optimiser's parameters are the module's own."""
    return dict(p)


@dataclass(frozen=True)
class Form:
    """A family of modules. `shapes(d)` gives one layer's parameters; `strength(A, p)` gives λ.

    strength: A [batch, token, d] fp32, p[name] [batch or 1, *shape] -> λ [batch, token], or [batch, token, r] where z
    has r rows. settle: what the optimiser holds, [layer, *shape] -> what is used and saved, of the same shapes.
    gated: λ ≥ 0 with a ReLU that may close for good. formula: the strength as it is written.
    """

    name: str
    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    strength: Callable[[Tensor, Params], Tensor]
    settle: Callable[[Params], dict[str, Tensor]] = _as_they_are
    rank: int = 1
    gated: bool = False
    formula: str = ""

    @property
    def equation(self) -> str:
        """What steering does at one position, in the letters of this file."""
        added = "λ(A) · z" if self.rank == 1 and "_k" not in self.formula else "Σ_k λ_k(A) · z_k"
        return f"A' = A + α · {added}, {self.formula}"


def _constant_strength(A: Tensor, p: Params) -> Tensor:
    """λ ≡ 1 (Const)."""
    return A.new_ones(A.shape[:2])


def _gate(A: Tensor, p: Params) -> Tensor:
    """λ(A) = ReLU(A · w + b) (Eq. 8)."""
    w, b = p["w"], p["b"]
    shared = w.shape[0] == 1  # one module for every row: a matrix-vector product instead of a batched one
    projection = A @ w[0] if shared else (A @ w.unsqueeze(-1)).squeeze(-1)
    return torch.relu(projection + b.unsqueeze(-1))


def _gates(A: Tensor, p: Params) -> Tensor:
    """λ_k(A) = ReLU(A · w_k + b_k): Eq. 8 with r gates. Returns [batch, token, r]."""
    return torch.relu(_read(A, p["w"]) + p["b"].unsqueeze(-2))


def _towards_target(A: Tensor, p: Params) -> Tensor:
    """λ(A) = t − A · z: at α = 1 every position's projection on z becomes t (Stolfo et al. 2025)."""
    return p["t"].unsqueeze(-1) - _read(A, p["z"].unsqueeze(-2)).squeeze(-1)


def _low_rank_edit(A: Tensor, p: Params) -> Tensor:
    """λ(A) = W A + b − R A, with z = R (Wu et al. 2024, Eq. 2). Returns [batch, token, r]."""
    return _read(A, p["w"] - p["z"]) + p["b"].unsqueeze(-2)


def _read(A: Tensor, rows: Tensor) -> Tensor:
    """A · row, for each row. A [batch, token, d], rows [batch or 1, r, d] -> [batch, token, r]."""
    return A @ (rows[0].T if rows.shape[0] == 1 else rows.transpose(1, 2))


def _orthonormal(p: Params) -> dict[str, Tensor]:
    """z's rows made orthonormal, in order (Gram-Schmidt as a QR with a positive diagonal). z: [layer, r, d], r ≤ d."""
    Q, R = torch.linalg.qr(p["z"].transpose(-1, -2))
    sign = torch.where(torch.diagonal(R, dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return {**p, "z": (Q * sign.unsqueeze(-2)).transpose(-1, -2)}


def _ranked(r: int) -> Callable[[int], dict[str, tuple[int, ...]]]:
    return lambda d: {"z": (r, d), "w": (r, d), "b": (r,)}


CONST = Form("Const", lambda d: {"z": (d,)}, _constant_strength, formula="λ(A) = 1")
PSR = Form("PSR", lambda d: {"z": (d,), "w": (d,), "b": ()}, _gate, gated=True, formula="λ(A) = ReLU(A · w + b)")
PROJ = Form("Proj", lambda d: {"z": (d,), "t": ()}, _towards_target, formula="λ(A) = t − A · z")
FORMS: dict[str, Form] = {form.name: form for form in (CONST, PSR, PROJ)}
_RANKED = re.compile(r"(PSR|LoReFT)([1-9]\d{0,3})")


@cache
def form_named(name: str) -> Form:
    """The form called `name`: one of FORMS, or PSRr or LoReFTr for any rank r. Raises PsrError that lists the known ones."""
    if name in FORMS:
        return FORMS[name]
    match = _RANKED.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise PsrError(
            "unknown form of steering module",
            got=repr(name),
            expected=f"one of {', '.join(FORMS)}, or PSR or LoReFT with a rank, as PSR4 and LoReFT4",
        )
    r = int(match[2])
    if match[1] == "PSR":
        return Form(name, _ranked(r), _gates, rank=r, gated=True, formula="λ_k(A) = ReLU(A · w_k + b_k)")
    return Form(name, _ranked(r), _low_rank_edit, _orthonormal, rank=r, formula="λ_k(A) = A · w_k + b_k − A · z_k")


def steer_activation(A: Tensor, alpha: Tensor, lam: Tensor, z: Tensor) -> Tensor:
    """A' = A + α · Σ_k λ_k · z_k (Eq. 7), in fp32 inside and in A's dtype outside.

    A: [batch, token, d], any float dtype. alpha: [batch, token] fp32; it is 0 outside the span, and there A' equals A
    exactly. lam: [batch, token] with z [batch or 1, d], or [batch, token, r] with z [batch or 1, r, d]; fp32.
    """
    if lam.dim() == 2:
        return A + ((alpha * lam).unsqueeze(-1) * z.unsqueeze(-2)).to(A.dtype)
    return A + ((alpha.unsqueeze(-1) * lam) @ z).to(A.dtype)


def init_params(form: Form, layers: int, d: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh fp32 parameters [layers, *shape]: the default init of the linear maps 1→d and d→1.

    z and (w, b) are uniform: ±1 for a fan-in of 1 would be torch's default for 1→d; the paper's code uses ±1/√d for z,
    and ±1/√d is also torch's default for a d→1 map.
    """
    bound = 1 / math.sqrt(d)
    shapes = form.shapes(d)
    return {name: (torch.rand((layers, *shape), generator=generator) * 2 - 1) * bound for name, shape in shapes.items()}
