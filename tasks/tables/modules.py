"""The modules that the distill stage wrote, found by attribute or by id."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.types import short_hash
from tasks.tables.parquet import read_table

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


def digest(module: SteeringModule) -> str:
    """A hash of what a module does: two fits may give one id and different parameters."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(module.tensors.items())}
    return short_hash(module.id, module.form, module.span, module.layers, sha256(save(tensors)).hexdigest())


def module_rows(distill: Path, attribute: str | None = None) -> list[dict[str, Any]]:
    """Rows of modules.parquet, of one attribute or of all."""
    rows = read_table(distill / "modules.parquet", "modules")
    return [row for row in rows if attribute in (None, row["attribute"])]


def rows_of_seed(distill: Path, attribute: str, seed: int | None) -> list[dict[str, Any]]:
    """The attribute's modules for one repetition: those fitted with `seed`, and those that no seed changes. None: all."""
    return [row for row in module_rows(distill, attribute) if seed is None or row["seed"] in (None, seed)]


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
