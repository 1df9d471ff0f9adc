"""Two probes that every model passes before anything is believed of it.

    check_reading    when a model is wrapped: what it says after a prefill and two cached steps, with left padding, is what
                     it says of the whole text at once, without cache; its cache counts the tokens that it was given; and
                     its blocks return the residual stream
    check_steering   before a model is first steered: the same with a random module at every layer

A model that keeps its past elsewhere, or a library that renames what steering reads, is wrong without a word otherwise.
Differences are measured against what they would be if the thing that is probed did not work at all, so that rounding
passes in any dtype. Of the three places the median counts, since a mixture of experts may send one token elsewhere for
the smallest difference. One short row with left padding shows all of this and costs four small forwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from psr.blocks import decoder_blocks
from psr.cached import fresh_cache, next_logits
from psr.errors import PsrError
from psr.exclusive import eager
from psr.forms import PSR
from psr.recording import recorded
from psr.terms import Term

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

PROMPT, STEPS, SKIPPED = 3, 2, 1  # columns of the prompt; cached steps after it; columns of left padding
TOLERANCE = {torch.float32: 0.02, torch.float16: 0.15}
OTHER_TOLERANCE = 0.35  # bfloat16, and whatever quantised weights are computed in; a fault comes out near 1
STRENGTH = 0.5  # length of what is added, all layers together, against the residual stream's
_steered_well: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True, eq=False)
class _Whole:
    """One forward without cache. logits [place, vocabulary]; streams: layer -> [1, token, d]."""

    logits: Tensor
    streams: dict[int, Tensor]


@torch.inference_mode()
def check_reading(model: PreTrainedModel) -> None:
    """Raise PsrError unless `model` reads with a cache as it does without, and its blocks return the residual stream."""
    with _running(model):
        whole = _whole(model)
        _check_streams(model, whole.streams)
        cached = _cached(model)
    _compare(model, "unsteered", cached, whole.logits, torch.zeros_like(whole.logits))


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
    from psr.steering import Live, opened

    model, blocks = cast("PreTrainedModel", model), decoder_blocks(model)
    with _running(model):
        plain = _whole(model)
        _check_streams(model, plain.streams)
        terms = _random_terms(plain.streams)
        start = torch.tensor([PROMPT - 1 - SKIPPED], device=_device(model))
        with opened(model, blocks, Live(terms, start)):
            whole = _whole(model)
        with opened(model, blocks, Live(terms, start)):
            cached = _cached(model)
    _compare(model, "steered at every layer", cached, whole.logits, plain.logits)
    _steered_well.add(model)


def _ids(model: PreTrainedModel) -> Tensor:
    """[1, token]: different tokens from all over the vocabulary; the first is padding and never read."""
    rows, length = _embedding(model).shape[0], PROMPT + STEPS
    return (torch.arange(length, device=_device(model)) * max(rows // length, 1) % rows).unsqueeze(0)


def _device(model: PreTrainedModel) -> torch.device:
    return _embedding(model).device


def _embedding(model: PreTrainedModel) -> Tensor:
    return cast("Any", model.get_input_embeddings()).weight


def _whole(model: PreTrainedModel) -> _Whole:
    """The real tokens in one forward, without padding and without cache."""
    ids = _ids(model)[:, SKIPPED:]
    with recorded(model, range(len(decoder_blocks(model)))) as streams:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    return _Whole(logits[0, PROMPT - 1 - SKIPPED :], dict(streams))


def _cached(model: PreTrainedModel) -> Tensor:
    """The same places with a cache and left padding, as psr.generation makes answers: [place, vocabulary]."""
    ids = _ids(model)
    attention = torch.ones_like(ids)
    attention[:, :SKIPPED] = 0
    positions, cache, said = (attention.cumsum(-1) - 1).clamp(min=0), fresh_cache(model), []
    begin = 0
    for end in range(PROMPT, PROMPT + STEPS + 1):
        said.append(next_logits(model, ids[:, begin:end], attention[:, :end], positions[:, begin:end], cache))
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
    return torch.cat(said).float()


def _length(cache: DynamicCache) -> int | str:
    try:
        return int(cache.get_seq_length())
    except Exception as error:  # a cache without attention layers has no length
        return f"{type(error).__name__}: {error}"


@contextmanager
def _running(model: nn.Module) -> Iterator[None]:
    """What a model raises when it is run becomes one line; compiled code is not used, which may take minutes to compile."""
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


def _check_streams(model: nn.Module, streams: dict[int, Tensor]) -> None:
    """Every block was called, and returned [batch, token, d] of one width."""
    layers, expected = len(decoder_blocks(model)), (1, PROMPT + STEPS - SKIPPED)
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


def _random_terms(streams: dict[int, Tensor]) -> dict[int, list[Term]]:
    """A gate and a direction at every layer, together about STRENGTH of the residual stream's length."""
    generator = torch.Generator().manual_seed(0)
    terms = {}
    for layer, stream in sorted(streams.items()):
        d, size = stream.shape[-1], float(stream.float().norm(dim=-1).median())
        z, w = (torch.nn.functional.normalize(torch.randn(d, generator=generator), dim=0) for _ in "zw")
        params = {
            "z": z * size * STRENGTH / len(streams) ** 0.5,
            "w": w * d**0.5 / (2 * max(size, 1e-9)),
            "b": torch.tensor(1.0),
        }
        on_device = {name: value.unsqueeze(0).to(stream.device) for name, value in params.items()}
        terms[layer] = [Term(PSR, on_device, torch.ones(1, device=stream.device))]
    return terms


def _compare(model: nn.Module, how: str, cached: Tensor, whole: Tensor, without: Tensor) -> None:
    """Raise PsrError where `cached` is farther from `whole` than rounding explains. without: what a dead probe would give."""
    effect = (whole - without - (whole - without).mean(dim=-1, keepdim=True)).norm(dim=-1)
    error = ((cached - whole).norm(dim=-1) / effect).nan_to_num(nan=torch.inf).median()
    allowed = TOLERANCE.get(next(model.parameters()).dtype, OTHER_TOLERANCE)
    if not float(error) <= allowed:
        import transformers

        here = f"Use the versions in constraints.txt (transformers here: {transformers.__version__}), or another model."
        raise PsrError(
            "reading with a cache and reading the whole text at once differ",
            where=f"{type(model).__name__}, {how}",
            expected=f"logits within {allowed:g} of the effect",
            got=f"{float(error):.3g}",
            do=f"Answers would be wrong. {'Call model.eval() first.' if model.training else here}",
        )
