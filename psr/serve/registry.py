"""What can be asked for: the model by its name, and each module of a folder as `model:module`.

Modules are loaded once, whole, at the start: a file that changes afterwards changes no answer until the server is started
again. A module that does not fit the model is not offered, and whoever asks for it gets the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from psr.errors import PsrError
from psr.lm.models import LanguageModel
from psr.steering.module import CONFIG, WEIGHTS, SteeringModule, check_model, load_module

LARGEST = 100.0  # the largest strength, either way: answers make no sense from a few on

Steering = tuple[tuple[str, SteeringModule, float], ...]


class Unknown(PsrError):
    """There is no model or module of this name."""


@dataclass(frozen=True)
class Registry:
    """base: what the model is called. modules: by name. refused: why the others in the folder are not offered, by name."""

    base: str
    modules: Mapping[str, SteeringModule] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All that `model` may say."""
        return [self.base, *(f"{self.base}:{name}" for name in self.modules)]

    def steering(self, model: str, steer: Sequence[tuple[str, float | None]] | None) -> Steering:
        """(name, module, strength) of each module that acts; without a strength, the recommended one.

        Raises Unknown for a model or module that is not here, and PsrError where both arguments name modules, for a
        strength out of range, and for a module that does not fit.
        """
        own = model.removeprefix(f"{self.base}:") if model != self.base else None
        if own == model:
            raise Unknown("no such model", where="model", got=repr(model[:80]), expected=self._some(self.names))
        if own is not None and steer:
            raise PsrError("modules are named twice", where="steer", expected=f"the model {self.base!r}, or no `steer`")
        asked = ((own, None),) if own is not None else tuple(steer or ())
        return tuple((name, module, _strength(module, alpha)) for name, alpha in asked for module in [self.named(name)])

    def named(self, name: str) -> SteeringModule:
        """The module called `name`. Raises Unknown, and PsrError for one that does not fit the model."""
        if name in self.refused:
            raise PsrError(self.refused[name])
        if name not in self.modules:
            raise Unknown("no such module", where="steer", got=repr(name[:80]), expected=self._some(list(self.modules)))
        return self.modules[name]

    @staticmethod
    def _some(names: Sequence[str]) -> str:
        return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"


def load_registry(lm: LanguageModel, folder: Path | None, name: str = "") -> Registry:
    """The registry of this model and of every module in `folder`, which are called as their folders in it are.

    folder may itself be a module's. name: of the model; its own one by default. Raises PsrError where there is no module in
    it at all.
    """
    base = name or lm.name.name or "model"
    if folder is None:
        return Registry(base)
    found = sorted(file.parent for file in folder.rglob(CONFIG)) if folder.is_dir() else []
    if not found:
        raise PsrError("no steering module", where=folder, expected=f"folders with {CONFIG} in them", got="none")
    modules, refused = {}, {}
    for place in found:
        called = place.relative_to(folder).as_posix() if place != folder else folder.resolve().name
        try:
            module = _whole(place)
            check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
            modules[called] = module
        except PsrError as error:
            refused[called] = str(error)
    return Registry(base, modules, refused)


def _whole(folder: Path) -> SteeringModule:
    """The module, in memory of our own: what safetensors gives may follow its file. Raises PsrError where that changes meanwhile."""
    before = _state(folder)
    module = load_module(folder)
    module = replace(module, tensors={name: tensor.clone() for name, tensor in module.tensors.items()})
    if _state(folder) != before:
        raise PsrError("a module's files were changed while they were read", where=folder, do="Start the server again.")
    return module


def _state(folder: Path) -> list[tuple[int, int]]:
    facts = [(folder / name).stat() for name in (CONFIG, WEIGHTS) if (folder / name).exists()]
    return [(one.st_mtime_ns, one.st_size) for one in facts]


def _strength(module: SteeringModule, alpha: float | None) -> float:
    strength = module.recommended_alpha if alpha is None else alpha
    if not abs(strength) <= LARGEST:
        raise PsrError("alpha is out of range", where="steer", expected=f"{-LARGEST:g} to {LARGEST:g}", got=strength)
    return strength
