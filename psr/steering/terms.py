"""What steering adds at each layer, row by row: each row's module, strength and first position become tensors of the batch.

A Term is one form at one layer with a row of parameters for each row of the batch, so that rows may carry different
modules and strengths in one forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.steering.forms import Form, form_named
from psr.steering.module import SteeringModule, check_alpha


@dataclass(frozen=True, eq=False)
class Term:
    """One form at one layer: params[name] [batch or 1, *shape] fp32, alpha [batch or 1] fp32 (0 = row untouched)."""

    form: Form
    params: Mapping[str, Tensor]
    alpha: Tensor

    def to(self, device: torch.device) -> Term:
        """The term on `device`; itself where it is there already."""
        if self.alpha.device == device:
            return self
        return Term(self.form, {name: values.to(device) for name, values in self.params.items()}, self.alpha.to(device))

    def keep(self, rows: Tensor) -> Term:
        """The term of these rows only (indices [kept])."""
        params = {name: _pick(values, rows) for name, values in self.params.items()}
        return Term(self.form, params, _pick(self.alpha, rows))


@dataclass(frozen=True, eq=False)
class Steer:
    """What happens to one row: its module (None: nothing), its strength, its first steered position (unpadded)."""

    module: SteeringModule | None
    alpha: float
    start: int

    @property
    def active(self) -> bool:
        return self.module is not None and self.alpha != 0


def with_alphas(
    modules: SteeringModule | Sequence[SteeringModule] | None, alpha: float | Sequence[float] | None
) -> tuple[tuple[SteeringModule, float], ...]:
    """Each of the modules with its strength: `alpha` is one number for all of them, or one for each; None: the recommended ones.

    Raises PsrError for another number of strengths than of modules, and for one that is nan or infinite.
    """
    modules = () if modules is None else (modules,) if isinstance(modules, SteeringModule) else tuple(modules)
    if alpha is None:
        return tuple((module, module.recommended_alpha) for module in modules)
    alphas = tuple(alpha) if isinstance(alpha, Sequence) else (alpha,) * len(modules)
    if len(alphas) != len(modules):
        raise PsrError(
            "modules and strengths do not go together",
            where="alpha",
            expected=f"one number, or {len(modules)} of them, as there are modules",
            got=len(alphas),
        )
    return tuple((module, check_alpha(one)) for module, one in zip(modules, alphas, strict=True))


def terms_of(rows: Sequence[Steer], device: torch.device) -> dict[int, list[Term]]:
    """layer -> one Term per form in use there, its parameters gathered row by row; rows without it have alpha 0."""
    modules = list(dict.fromkeys(row.module for row in rows if row.module is not None and row.active))
    terms: dict[int, list[Term]] = {}
    for name in sorted({module.form for module in modules}):
        of_form = [module for module in modules if module.form == name]
        for layer in sorted({layer for module in of_form for layer in module.layers}):
            at_layer = [module for module in of_form if layer in module.layers]
            terms.setdefault(layer, []).append(_term(form_named(name), at_layer, layer, rows, device))
    return terms


def _term(form: Form, modules: list[SteeringModule], layer: int, rows: Sequence[Steer], device: torch.device) -> Term:
    number = {module: i for i, module in enumerate(modules)}
    active = [row.active and row.module in number for row in rows]
    alpha = torch.tensor([row.alpha if on else 0.0 for row, on in zip(rows, active, strict=True)], device=device)
    index = [number[row.module] if on and row.module else 0 for row, on in zip(rows, active, strict=True)]
    pick = torch.tensor(index if len(modules) > 1 else [0], device=device)
    params = {
        name: torch.stack([module.tensors[name][module.layers.index(layer)] for module in modules]).to(device)[pick]
        for name in form.shapes(modules[0].d_model)
    }
    return Term(form, params, alpha)


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    return values if values.shape[0] == 1 else values[rows]
