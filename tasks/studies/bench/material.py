"""The input of the bench: a finished profile's triplets, modules and search settings, the model and the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.types import Example, Method, Triplet
from tasks.asking.models import ModelSettings, open_model
from tasks.asking.modules import modules_of
from tasks.studies.bench.pairs import Run, alternate
from tasks.tables.triplets import triplets_by_attribute

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule

TABLES = ("complete/completions", "select/triplets", "distill/modules", "search/completions")
LARGE = 30_000_000  # parameters, from where one pass over a profile's triplets takes seconds
NEEDED = tuple(f"{name}.parquet" for name in TABLES)


@dataclass(frozen=True)
class Material:
    """A profile's triplets by attribute. search: the section of params.yaml.

    repeats: how many times each run is timed; advance(1): called after each.
    """

    data: Path
    lm: LanguageModel
    triplets: Mapping[str, Sequence[Triplet]]
    search: Mapping[str, Any]
    repeats: int = 1
    advance: Callable[[int], None] = lambda n: None

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers of the model."""
        return tuple(range(self.lm.n_layers))

    @property
    def large(self) -> bool:
        """Whether the model is too large for measures of hundreds of passes."""
        return sum(parameter.numel() for parameter in self.lm.model.parameters()) >= LARGE

    @property
    def attribute(self) -> str:
        """The first attribute, used where one is enough."""
        return min(self.triplets)

    def examples(self, method: Method, limit: int | None = None, attribute: str | None = None) -> list[Example]:
        """At most `limit` of the attribute's triplets, aligned on the method's span."""
        from psr.lm.alignment import align

        triplets = self.triplets[attribute or self.attribute][:limit]
        tokenizer, span = self.lm.tokenizer, method.span
        return [Example(align(tokenizer, t.pair, t.completion.token_ids, span), t.trait) for t in triplets]

    def module(self) -> SteeringModule:
        """The attribute's all-layer PSR module. Raises PsrError without one."""
        for module in modules_of(self.data / "distill", self.attribute):
            if module.form == "PSR" and len(module.layers) == self.lm.n_layers:
                return module
        raise PsrError(
            "the bench needs an all-layer PSR module",
            where=self.data / "distill",
            expected="a-psr-mse-qr among the profile's methods",
            got="none",
            do="Add it to params.yaml and reproduce.",
        )

    def seconds(self, runs: Sequence[Run], *, warm_up: bool = True) -> list[list[float]]:
        """Seconds of each run, [run][repeat], timed alternately."""
        wait = partial(settle, self.lm.device)
        return alternate(runs, self.repeats, settle=wait, advance=self.advance, warm_up=warm_up)


def settle(device: Any) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def machine(lm: LanguageModel) -> dict[str, Any]:
    """The device, threads, versions and model that speed depends on; no host name or path."""
    import torch

    return {
        "device": torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else lm.device.type,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "model": lm.fingerprint,
    }


def check_finished(data: Path, profile: str, needed: Sequence[str] = NEEDED, who: str = "the bench") -> None:
    """Raise PsrError where an output of the profile that `who` needs is missing."""
    missing = [name for name in needed if not (data / name).is_file()]
    if missing:
        raise PsrError(
            f"{who} works on a finished profile",
            where=f"data/{profile}",
            expected="the outputs of its stages",
            got=f"no {', '.join(missing)}",
            do=f"Run `python -m flows.reproduce --profile {profile}` first.",
        )


def load(data: Path, model: ModelSettings, search: Mapping[str, Any]) -> Material:
    """The material in the profile's folder `data`. Raises PsrError without triplets, or for damaged tables."""
    triplets = triplets_by_attribute(data / "complete", data / "select")
    if not triplets:
        raise PsrError(
            "the bench needs triplets", where=data / "select", expected="at least one kept triplet", got="none"
        )
    return Material(data, open_model(model), triplets, search)
