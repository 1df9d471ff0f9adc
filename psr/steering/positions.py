"""The positions of one forward's tokens in their sequences, read from what the model was really given.

A forward is given `length` tokens a row after the `past` tokens that its key-value cache holds. The cache is known by
what it can do (it says its length), not by the name of its argument, which transformers has renamed before (5.24:
`past_key_values` became `cache`). What contradicts that, or cannot be read, is refused: steering at a guessed position
would give wrong answers without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from psr.errors import PsrError

_PLAIN = (type(None), bool, int, float, str, Tensor, torch.dtype, torch.device)
_WHERE = "steering, at the start of a forward"


@dataclass(frozen=True, eq=False)
class Given:
    """What one forward was given. tokens: [batch, token] ids or [batch, token, d] embeddings.

    past: positions in the cache before them, padding included. attention: [batch, past + token], 1 on real tokens; None:
    every token is real.
    """

    tokens: Tensor
    past: int
    attention: Tensor | None

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    @property
    def ids(self) -> Tensor | None:
        """[batch, token], None where the forward was given embeddings."""
        return self.tokens if self.tokens.dim() == 2 else None

    def columns(self) -> Tensor:
        """[token]: the column of each token in its row, cached tokens and left padding counted."""
        return torch.arange(self.length, device=self.tokens.device) + self.past

    def padding(self) -> Tensor:
        """[batch]: how many columns of left padding each row begins with."""
        if self.attention is None:
            return torch.zeros(self.batch, dtype=torch.long, device=self.tokens.device)
        return (self.attention.cumsum(-1) == 0).sum(-1)

    def last(self) -> Tensor:
        """[batch]: the column of the last real token."""
        if self.attention is None:
            return torch.full((self.batch,), self.past + self.length - 1, device=self.tokens.device)
        columns = torch.arange(1, self.attention.shape[1] + 1, device=self.attention.device)
        return ((self.attention != 0) * columns).amax(-1) - 1  # masked columns may lie between turns as well


def read_forward(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Given:
    """What `module`'s forward is about to be given. Raises PsrError where its tokens' positions cannot be read."""
    names = (*_names(type(module).forward), *(f"number {i}" for i in range(len(args))))
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    tokens = values.get("input_ids")
    tokens = values.get("inputs_embeds") if tokens is None else tokens
    if not isinstance(tokens, Tensor) or tokens.dim() not in (2, 3) or tokens.numel() == 0:
        raise PsrError(
            "found no tokens in what the model was given",
            where=_WHERE,
            do="Call it with input_ids=… or inputs_embeds=….",
            expected="input_ids [batch, token] or inputs_embeds",
            got=", ".join(values) or "nothing",
        )
    past = _past({name: value for name, value in values.items() if name != "attention_mask"})
    attention = _mask(values.get("attention_mask"), past or 0, tokens.shape[1])
    if past is None:
        _check_no_past(values, tokens.shape[1])
    return Given(tokens, past or 0, attention)


@cache
def _names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments that a module's forward takes by position, in order."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(forward).parameters
    return tuple(name for name, parameter in parameters.items() if parameter.kind in by_position)[1:]


def _past(values: Mapping[str, Any]) -> int | None:
    """How many tokens the cache among `values` holds; None where there is no cache."""
    lengths = {}
    for name, value in values.items():
        if hasattr(value, "get_seq_length"):
            lengths[name] = _length(name, value)
        elif _opaque(value):
            raise PsrError(
                "steering cannot tell how many tokens came before these",
                where=f"argument {name}",
                expected="a cache that knows its length (get_seq_length), or none",
                got=type(value).__name__,
                do="Use transformers' DynamicCache, or no cache.",
            )
    if len(set(lengths.values())) > 1:
        raise PsrError("two caches of different lengths", where=_WHERE, expected="one cache", got=lengths)
    return next(iter(lengths.values()), None)


def _length(name: str, cache: Any) -> int:
    try:
        return int(cache.get_seq_length())
    except Exception as error:  # transformers raises ValueError where no layer keeps tokens
        raise PsrError(
            "steering cannot tell how many tokens came before these",
            where=f"argument {name}",
            expected="a cache that knows its length",
            got=f"{type(error).__name__}: {error}",
            do="Use a model with attention.",
        ) from error


def _opaque(value: Any) -> bool:
    """Whether `value` may hide a cache: an object of another kind, or tensors nested in tuples, as caches once were."""
    if isinstance(value, (list, tuple)):
        return any(isinstance(inner, (list, tuple)) or _opaque(inner) for inner in value)
    if isinstance(value, dict):  # images that transformers has encoded beforehand, by kind
        return not all(isinstance(inner, ModelOutput) for inner in value.values())
    return not isinstance(value, _PLAIN)


def _mask(attention: Any, past: int, length: int) -> Tensor | None:
    if attention is None:
        return None
    if not isinstance(attention, Tensor) or attention.dim() != 2:
        got = f"{attention.dim()} dimensions" if isinstance(attention, Tensor) else type(attention).__name__
        raise PsrError(
            "steering needs a plain attention mask",
            expected="[batch, token] or none",
            got=got,
            do="Pass the tokenizer's attention_mask, and no static cache.",
        )
    if attention.shape[1] != past + length:
        raise PsrError(
            "the attention mask does not cover the tokens that the model was given",
            where=_WHERE,
            expected=f"{past} cached and {length} new tokens",
            got=f"{attention.shape[1]} columns",
            do="Pass the mask of the whole sequence, and the cache that belongs to it.",
        )
    return attention


def _check_no_past(values: Mapping[str, Any], length: int) -> None:
    """Refuse tokens whose positions say that others came before them, where there is no cache that holds those."""
    for name in ("position_ids", "cache_position"):
        positions = values.get(name)
        if isinstance(positions, Tensor) and positions.shape[-1] == length and not positions.is_meta:
            first = int(positions.amin(dim=-1).max())
            if values.get("attention_mask") is None and length > 1 and bool((positions.diff(dim=-1) < 0).any()):
                raise PsrError(
                    "several texts in one row",
                    where=f"{_WHERE}, {name}",
                    expected="one text a row",
                    got="positions that begin again",
                    do="Give each text a row of its own.",
                )
            if first > 0:
                raise PsrError(
                    "the tokens come later in their sequence than the cache says",
                    where=f"{_WHERE}, {name}",
                    expected="a cache that holds the tokens before them",
                    got=f"position {first} and no cache",
                    do="Pass the cache, or the whole sequence.",
                )
