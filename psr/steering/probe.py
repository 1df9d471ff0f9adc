"""The probe that a model passes before it is first steered: a module at every layer acts with a cache as without.

Where a version of transformers renames what steering reads, cached tokens would stay unsteered without an error. psr/lm/probe.py says how
differences are measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from psr.lm.blocks import decoder_blocks
from psr.lm.probe import PROMPT, SKIPPED, cached, check_streams, compare, device_of, running, whole
from psr.steering.forms import PSR
from psr.steering.live import Group, Live, opened
from psr.steering.terms import Term

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STRENGTH = 0.5  # length of what is added, all layers together, against the residual stream's
_steered_well: WeakSet[nn.Module] = WeakSet()


@torch.inference_mode()
def check_steering(model: nn.Module) -> None:
    """Raise PsrError unless steering acts on `model` with a cache as it does without. Once a model; fresh random module.

    Models that are not transformers' have no cache that is known here, and without weights there is nothing to compare.
    """
    if (
        model in _steered_well
        or not hasattr(model, "get_input_embeddings")
        or any(one.is_meta for one in model.parameters())
    ):
        return
    model, blocks = cast("PreTrainedModel", model), decoder_blocks(model)
    with running(model):
        plain = whole(model)
        check_streams(model, plain.streams)
        terms = _random_terms(plain.streams)
        start = torch.tensor([PROMPT - 1 - SKIPPED], device=device_of(model))
        with opened(model, blocks, Live([Group(terms, start)])):
            read = whole(model)
        with opened(model, blocks, Live([Group(terms, start)])):
            steps = cached(model)
    compare(model, "steered at every layer", steps, read.logits, plain.logits)
    _steered_well.add(model)


def _random_terms(streams: dict[int, Tensor]) -> dict[int, list[Term]]:
    """A gate and a direction at every layer, together about _STRENGTH of the residual stream's length."""
    generator = torch.Generator().manual_seed(0)
    terms = {}
    for layer, stream in sorted(streams.items()):
        d, size = stream.shape[-1], float(stream.float().norm(dim=-1).median())
        z, w = (torch.nn.functional.normalize(torch.randn(d, generator=generator), dim=0) for _ in "zw")
        params = {
            "z": z * size * _STRENGTH / len(streams) ** 0.5,
            "w": w * d**0.5 / (2 * max(size, 1e-9)),
            "b": torch.tensor(1.0),
        }
        on_device = {name: value.unsqueeze(0).to(stream.device) for name, value in params.items()}
        terms[layer] = [Term(PSR, on_device, torch.ones(1, device=stream.device))]
    return terms
