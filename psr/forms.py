"""What a steering module adds to the residual stream, as formulas on tensors.

    Const  A' = A + α · z                             (constant steering)
    PSR    A' = A + α · λ(A) · z                      (Eq. 7)
           λ(A) = ReLU(A · w + b)                     (Eq. 8; ReLU, so that λ can be exactly 0)

Heyman & Vandeputte, "Steer Like the LLM", ICML 2026, Section 3. Symbols: A residual stream after a block,
z direction, w and b gate, α global strength (`alpha`), λ token strength (`lam`).

A form is a plain function `strength` from activations and one layer's parameters, a row each, to λ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from psr.errors import PsrError

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """A family of modules. `shapes(d)` gives one layer's parameters; `strength(A, p)` gives λ.

    strength: A [batch, token, d] fp32, p[name] [batch or 1, *shape] -> λ [batch, token].
    """

    name: str
    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    strength: Callable[[Tensor, Params], Tensor]


def constant_strength(A: Tensor, p: Params) -> Tensor:
    """λ ≡ 1 (Const)."""
    return A.new_ones(A.shape[:2])


def gate(A: Tensor, p: Params) -> Tensor:
    """λ(A) = ReLU(A · w + b) (Eq. 8)."""
    w, b = p["w"], p["b"]
    shared = w.shape[0] == 1  # one module for every row: a matrix-vector product instead of a batched one
    projection = A @ w[0] if shared else (A @ w.unsqueeze(-1)).squeeze(-1)
    return torch.relu(projection + b.unsqueeze(-1))


CONST = Form("Const", lambda d: {"z": (d,)}, constant_strength)
PSR = Form("PSR", lambda d: {"z": (d,), "w": (d,), "b": ()}, gate)
FORMS: dict[str, Form] = {form.name: form for form in (CONST, PSR)}


def form_named(name: str) -> Form:
    """The form called `name`. Raises PsrError that lists the known ones."""
    if name not in FORMS:
        raise PsrError("unknown form of steering module", expected=f"one of {', '.join(FORMS)}", got=repr(name))
    return FORMS[name]


def steer_activation(A: Tensor, alpha: Tensor, lam: Tensor, z: Tensor) -> Tensor:
    """A' = A + α · λ · z (Eq. 7), in fp32 inside and in A's dtype outside.

    A: [batch, token, d], any float dtype. alpha, lam: [batch, token] fp32; alpha is 0 outside the span, and there A'
    equals A exactly. z: [batch or 1, d] fp32.
    """
    return A + ((alpha * lam).unsqueeze(-1) * z.unsqueeze(-2)).to(A.dtype)


def init_params(form: Form, layers: int, d: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh fp32 parameters [layers, *shape]: the default init of the linear maps 1→d and d→1.

    z and (w, b) are uniform: ±1 for a fan-in of 1 would be torch's default for 1→d; the paper's code uses ±1/√d for z,
    and ±1/√d is also torch's default for a d→1 map.
    """
    bound = 1 / math.sqrt(d)
    shapes = form.shapes(d)
    return {name: (torch.rand((layers, *shape), generator=generator) * 2 - 1) * bound for name, shape in shapes.items()}
