"""The probe that every model passes when it is wrapped: with a key-value cache it computes what it computes without.

Its logits after a prefill and two cached steps, with left padding, are those of the whole text at once; its cache counts
the tokens that it was given; and its blocks return the residual stream. A model that keeps its past elsewhere would give
wrong answers without an error. psr/steering/probe.py does the same with a module at every layer.

Differences are measured against what they would be if the thing that is probed did not work at all, so that rounding
passes in any dtype. Of the three positions the median counts, since in a mixture of experts the smallest difference may
send one token to other experts. One short row with left padding shows all of this and costs four small forwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks, recorded
from psr.lm.cached import fresh_cache, next_logits
from psr.lm.exclusive import eager

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

PROMPT, _STEPS, SKIPPED = 3, 2, 1  # columns of the prompt; cached steps after it; columns of left padding
_TOLERANCE = {torch.float32: 0.02, torch.float16: 0.15}
_OTHER_TOLERANCE = 0.35  # bfloat16, and whatever quantised weights are computed in; a fault comes out near 1


@dataclass(frozen=True, eq=False)
class _Whole:
    """One forward without cache. logits [position, vocabulary]; streams: layer -> [1, token, d]."""

    logits: Tensor
    streams: dict[int, Tensor]


@torch.inference_mode()
def check_reading(model: PreTrainedModel) -> None:
    """Raise PsrError unless `model` reads with a cache as it does without, and its blocks return the residual stream."""
    with running(model):
        read = whole(model)
        check_streams(model, read.streams)
        steps = cached(model)
    compare(model, "unsteered", steps, read.logits, torch.zeros_like(read.logits))


def _ids(model: PreTrainedModel) -> Tensor:
    """[1, token]: different tokens from all over the vocabulary; the first is padding and never read."""
    rows, length = _embedding(model).shape[0], PROMPT + _STEPS
    return (torch.arange(length, device=device_of(model)) * max(rows // length, 1) % rows).unsqueeze(0)


def device_of(model: PreTrainedModel) -> torch.device:
    return _embedding(model).device


def _embedding(model: PreTrainedModel) -> Tensor:
    return cast("Any", model.get_input_embeddings()).weight


def whole(model: PreTrainedModel) -> _Whole:
    """The real tokens in one forward, without padding and without cache."""
    ids = _ids(model)[:, SKIPPED:]
    with recorded(model, range(len(decoder_blocks(model)))) as streams:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    return _Whole(logits[0, PROMPT - 1 - SKIPPED :], dict(streams))


def cached(model: PreTrainedModel) -> Tensor:
    """The same positions with a cache and left padding, as psr.answers.generation works: [position, vocabulary]."""
    ids = _ids(model)
    attention = torch.ones_like(ids)
    attention[:, :SKIPPED] = 0
    positions, cache, logits = (attention.cumsum(-1) - 1).clamp(min=0), fresh_cache(model), []
    begin = 0
    for end in range(PROMPT, PROMPT + _STEPS + 1):
        logits.append(next_logits(model, ids[:, begin:end], attention[:, :end], positions[:, begin:end], cache))
        length = _length(cache)
        if length != end:
            raise PsrError(
                "this model does not keep what it reads in the key-value cache that it is given",
                where=type(model).__name__,
                expected=f"{end} tokens in it",
                got=length,
                do="It cannot be steered here: use a model with attention.",
            )
        begin = end
    return torch.cat(logits).float()


def _length(cache: DynamicCache) -> int | str:
    try:
        return int(cache.get_seq_length())
    except Exception as error:  # a cache without attention layers has no length
        return f"{type(error).__name__}: {error}"


@contextmanager
def running(model: nn.Module) -> Iterator[None]:
    """Whatever a model raises becomes a PsrError of one line. Compiled code is not used: it may take minutes to compile."""
    try:
        with eager():
            yield
    except PsrError:
        raise
    except Exception as error:
        raise PsrError(
            "this model cannot be read with a key-value cache",
            where=type(model).__name__,
            expected="a forward of tokens, and of more tokens after them",
            got=f"{type(error).__name__}: {error}",
            do="Use another model, or the versions in constraints.txt.",
        ) from error


def check_streams(model: nn.Module, streams: dict[int, Tensor]) -> None:
    """Every block was called, and returned [batch, token, d] of one width."""
    layers, expected = len(decoder_blocks(model)), (1, PROMPT + _STEPS - SKIPPED)
    shapes = {layer: tuple(stream.shape) for layer, stream in streams.items() if isinstance(stream, Tensor)}
    odd = [layer for layer in range(layers) if shapes.get(layer, ())[:2] != expected or len(shapes[layer]) != 3]
    if odd or len({shape[-1] for shape in shapes.values()}) != 1:
        got = shapes.get(odd[0], "no call of its hook") if odd else sorted({shape[-1] for shape in shapes.values()})
        raise PsrError(
            "this model's blocks do not return one residual stream",
            where=f"{type(model).__name__}, layer {(odd or [0])[0]}",
            expected=f"[{expected[0]}, {expected[1]}, d] with one d",
            got=got,
            do="It cannot be steered here: load it uncompiled, or use another model.",
        )


def compare(model: nn.Module, how: str, cached: Tensor, whole: Tensor, without: Tensor) -> None:
    """Raise PsrError where `cached` is farther from `whole` than rounding explains. without: logits if nothing had acted."""
    effect = (whole - without - (whole - without).mean(dim=-1, keepdim=True)).norm(dim=-1)
    error = ((cached - whole).norm(dim=-1) / effect).nan_to_num(nan=torch.inf).median()
    allowed = _TOLERANCE.get(next(model.parameters()).dtype, _OTHER_TOLERANCE)
    if not float(error) <= allowed:
        import transformers

        advice = (
            f"Use the versions in constraints.txt (transformers here: {transformers.__version__}), or another model."
        )
        raise PsrError(
            "reading with a cache and reading the whole text at once differ",
            where=f"{type(model).__name__}, {how}",
            expected=f"logits within {allowed:g} of the effect",
            got=f"{float(error):.3g}",
            do=f"Answers would be wrong. {'Call model.eval() first.' if model.training else advice}",
        )
