"""The modules that the distill step wrote, opened, and what tells two of them apart."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.types import short_hash
from tasks.tables.modules import rows_of_seed

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


def digest(module: SteeringModule) -> str:
    """A hash of what a module does: two fits may give one id and different parameters."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(module.tensors.items())}
    return short_hash(module.id, module.form, module.span, module.layers, sha256(save(tensors)).hexdigest())


def modules_of(distill: Path, attribute: str, seed: int | None = None) -> list[SteeringModule]:
    """These modules, in the order of the table. Raises PsrError when a folder holds another module."""
    from psr.steering.module import load_module

    found = []
    for row in rows_of_seed(distill, attribute, seed):
        module = load_module(distill / row["folder"])
        if module.id != row["id"]:
            raise PsrError(
                "a folder holds another module than the table says",
                where=distill / row["folder"],
                expected=row["id"],
                got=module.id,
                do="Run `dvc checkout`, or the distill stage again.",
            )
        found.append(module)
    return found
