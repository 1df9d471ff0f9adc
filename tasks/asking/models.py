"""The settings of a run's language model, what its config says before it is opened, and the model itself, opened once a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.engine.cells import remembered
from tasks.engine.files import read_json

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def resolved_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the section `model` with what "auto" comes to on this machine."""
    if "auto" not in (values.get("dtype"), values.get("device")):  # else torch is not needed
        return dict(values)
    from psr.lm.devices import resolved

    dtype, device = resolved(values.get("dtype", "float32"), values.get("device", "cpu"))
    return {**values, "dtype": dtype, "device": device}


def config_of(folder: Path, name: str, revision: str | None) -> dict[str, Any] | None:
    """A model's config.json: of its folder, or of the commit `revision` of the hub's model `name` in the cache on this machine;
    None where it is not there."""
    file: str | Path | None = folder / "config.json"
    if revision is not None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json", revision=revision)
        file = found if isinstance(found, str) else None
    config: dict[str, Any] | None = read_json(Path(file)) if file else None
    return config


def parameters_of(config: Mapping[str, Any]) -> int | None:
    """How many numbers the weights of a model with this config.json hold; None for a kind that transformers cannot build."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from psr.lm.devices import parameter_count

    kind = str(config.get("model_type"))
    return (
        parameter_count(AutoModelForCausalLM, CONFIG_MAPPING[kind].from_dict(dict(config)))
        if kind in CONFIG_MAPPING
        else None
    )


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it is run. Small and picklable, so a cell takes it as an argument instead of the model.

    template: options of its chat template, as a mapping or as pairs. revision: the commit, of a model of the hub. dtype and
    device hold what "auto" comes to on this machine.
    """

    path: str
    dtype: str
    device: str
    threads: int
    trust_remote_code: bool = False
    template: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    revision: str | None = None

    def __post_init__(self) -> None:
        for name, value in resolved_model({"dtype": self.dtype, "device": self.device}).items():
            object.__setattr__(self, name, value)
        # hashable, and equal whatever the order of its options: open_model caches by it
        object.__setattr__(self, "template", tuple(sorted(dict(self.template).items())))

    @property
    def reads(self) -> tuple[object, ...]:
        """What a result computed with the model depends on: its fingerprint and how it is run, not its path."""
        return open_model(self).fingerprint, self.dtype, self.device, self.threads


@remembered(None)
def open_model(settings: ModelSettings) -> LanguageModel:
    """The model that `settings` names, with torch set to its number of threads (matrix products differ in their last bits between
    thread counts). Raises PsrError as psr.lm.loading.load_model does."""
    import torch

    from psr.lm.loading import load_model

    torch.set_num_threads(settings.threads)
    return load_model(
        settings.path,
        revision=settings.revision,
        dtype=settings.dtype,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
        template=dict(settings.template),
    )
