"""The language model of a run, opened once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psr.models import LanguageModel


@dataclass(frozen=True)
class ModelPlace:
    """Which model, and how it is run: small enough to hand from task to task, unlike the model itself."""

    path: str
    dtype: str
    device: str
    threads: int
    trust_remote_code: bool = False


@cache
def open_model(place: ModelPlace) -> LanguageModel:
    """The model at `place`, with torch set to its number of threads (matrix products differ in their last bits between
    thread counts). Raises PsrError as psr.models.load_model does."""
    import torch

    from psr.models import load_model

    torch.set_num_threads(place.threads)
    return load_model(place.path, dtype=place.dtype, device=place.device, trust_remote_code=place.trust_remote_code)
