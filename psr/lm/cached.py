"""One forward with a key-value cache, whatever this version of transformers calls the argument that takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from psr.errors import PsrError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# transformers ≥ 5.24, < 5.24, and its models without attention
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")


def fresh_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache of the kinds of layers that the model's config names."""
    return DynamicCache(config=model.config)


def keeps_columns(cache: DynamicCache) -> bool:
    """Whether the cache holds each token's keys and values in a column of its own, so that masked columns are nothing to it.

    To a sliding window or a recurrence they are steps.
    """
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def next_logits(
    model: PreTrainedModel, ids: Tensor, attention: Tensor, positions: Tensor, cache: DynamicCache | None = None
) -> Tensor:
    """Logits [batch, vocabulary] after the last token; the rest as in `last_logits`."""
    return last_logits(model, ids, attention, positions, cache)[:, -1]


def last_logits(
    model: PreTrainedModel,
    ids: Tensor,
    attention: Tensor,
    positions: Tensor,
    cache: DynamicCache | None = None,
    kept: int = 1,
) -> Tensor:
    """Logits [batch, kept, vocabulary] after the last `kept` tokens; positions and cut logits only where the model takes them.

    ids, positions: [batch, token]; attention: [batch, cached + token]. Raises PsrError when the model takes no cache.
    """
    parameters = arguments(type(model).forward)
    options: dict[str, Any] = {"logits_to_keep": kept, "position_ids": positions}
    options = {name: value for name, value in options.items() if name in parameters}
    if cache is not None:
        options[cache_argument(model)] = cache
    return model(input_ids=ids, attention_mask=attention, use_cache=cache is not None, **options).logits[:, -kept:]


def cache_argument(model: PreTrainedModel) -> str:
    """The name under which this model's forward takes a cache. Raises PsrError when it has none of the known ones."""
    parameters = arguments(type(model).forward)
    name = next((name for name in _CACHE_NAMES if name in parameters), None)
    if name is None:
        raise PsrError(
            "this model takes no key-value cache that is known here",
            where=type(model).__name__,
            expected=f"an argument {' or '.join(_CACHE_NAMES)}",
            got=", ".join(parameters),
            do="Use another model, or the versions in constraints.txt.",
        )
    return name


@cache
def arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments that `function` takes."""
    return tuple(inspect.signature(function).parameters)
