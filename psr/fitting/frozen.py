"""The frozen blocks up to the lowest steered one run once an example, and not once an epoch.

A module whose lowest layer is l changes what block l returns, never what it is given: A[l | x y'] before steering is the
same in every step. It is recorded once, over the whole of x y', and later forwards begin with it: the model's own forward
runs as always (embedding, positions, masks), but blocks 0 … l−1 do nothing and block l returns the recording. A step then
costs the blocks above l alone. It gives what the full forward gives, up to the rounding of batches of another shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from psr.fitting.batches import Batch, TrainingSet
from psr.lm.blocks import decoder_blocks, recorded
from psr.lm.recording import Targets, record

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

BUDGET = 2 << 30
PROBED = 2  # examples on which the shortened forward is compared with the full one


def frozen_stream(lm: LanguageModel, data: TrainingSet, layer: int, budget: int = BUDGET) -> Targets | None:
    """What block `layer` returns on every token of `data`, in the model's dtype on the CPU: layers (layer,), span "all".

    None when it does not fit `budget` bytes, or when this model's forward cannot be shortened (blocks that pass on more
    than the residual stream): it is compared on a first batch, and must agree bit for bit.
    """
    dtype = next(lm.model.parameters()).dtype
    if int(data.length.sum()) * lm.d_model * dtype.itemsize > budget or not can_begin_at(lm, data, layer):
        return None
    sequences = [ids[:n].tolist() for ids, n in zip(data.ids, data.length.tolist(), strict=True)]
    return record(lm, sequences, [0] * len(sequences), (layer,), span="all", dtype=dtype)


@torch.no_grad()
def can_begin_at(lm: LanguageModel, data: TrainingSet, layer: int) -> bool:
    """Whether a forward that begins with block `layer`'s output ends as the full one does, on the first examples."""
    batch = data.batch(torch.arange(min(PROBED, len(data))), lm.device)
    last = lm.n_layers - 1

    def ends(stream: Tensor | None) -> dict[int, Tensor]:
        with recorded(lm.model, sorted({layer, last})) as activations, beginning_with(lm.model, layer, stream):
            lm.base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
            return dict(activations)

    whole = ends(None)
    try:
        return torch.equal(ends(whole[layer])[last], whole[last])
    except Exception:  # a block of another signature may raise anything
        return False


@contextmanager
def beginning_with(model: nn.Module, layer: int, stream: Tensor | None) -> Iterator[None]:
    """While open, block `layer` returns `stream` ([batch, token, d]) and the blocks below it do nothing. None: no change.

    Hooks on the blocks run as always.
    """
    blocks = [] if stream is None else list(decoder_blocks(model))[: layer + 1]
    own = [block.__dict__.get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = _returning(stream)  # type: ignore[method-assign, arg-type]
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward  # type: ignore[method-assign]


def _returning(stream: Tensor) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: stream


def stream_of(frozen: Targets, batch: Batch, device: torch.device) -> Tensor:
    """The recorded stream laid over a batch, [batch, token, d] on `device`; right padding holds some real token's."""
    first = torch.tensor(frozen.offsets)[batch.rows].unsqueeze(-1)
    inside = batch.attention.bool().cpu()
    index = torch.where(inside, first + torch.arange(inside.shape[1]), first)
    return frozen.values[0, index].to(device)
