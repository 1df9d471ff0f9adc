"""The language model of a run, opened once a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True)
class ModelPlace:
    """Which model, and how it is run: small enough to hand from task to task, unlike the model itself.

    template: options of its chat template, as a mapping or as pairs.
    """

    path: str
    dtype: str
    device: str
    threads: int
    trust_remote_code: bool = False
    template: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "template", tuple(sorted(dict(self.template).items()))
        )  # places are looked up by value

    @property
    def reads(self) -> tuple[object, ...]:
        """What anything computed with it depends on: weights and tokenizer, how they are run, never where they lie."""
        return open_model(self).fingerprint, self.dtype, self.device, self.threads


@cache
def open_model(place: ModelPlace) -> LanguageModel:
    """The model at `place`, with torch set to its number of threads (matrix products differ in their last bits between
    thread counts). Raises PsrError as psr.lm.loading.load_model does."""
    import torch

    from psr.lm.loading import load_model

    torch.set_num_threads(place.threads)
    return load_model(
        place.path,
        dtype=place.dtype,
        device=place.device,
        trust_remote_code=place.trust_remote_code,
        template=dict(place.template),
    )
