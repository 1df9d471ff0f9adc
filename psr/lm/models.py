"""A language model with its tokenizer: frozen, probed, and named by its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks, underlying
from psr.lm.fingerprints import acting_adapters, fingerprint
from psr.lm.hub import named
from psr.lm.padding import check_ids
from psr.lm.probe import check_reading
from psr.lm.templates import with_options
from psr.types import UNNAMED, ModelName

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_UNLIMITED = 1 << 31  # the context of a model whose config names none


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen causal LM with its tokenizer; `load_model` and `wrap` make one.

    model, tokenizer: those of transformers. fingerprint: the name of the two together, equal if and only if they answer
    alike: a module remembers it and refuses any other model. n_layers: decoder blocks; layer l is block l, from 0.
    d_model: width of the residual stream. context: the most tokens, prompt and answer together. stop_ids: the tokens
    that end an answer. name: what it is called, for people; the fingerprint decides.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    name: ModelName = UNNAMED
    _adapters: list[object] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_adapters", acting_adapters(self.model))

    def check_adapters(self) -> None:
        """Raise PsrError where adapters were switched since the model was wrapped: it is another model then."""
        if acting_adapters(self.model) != self._adapters:
            raise PsrError(
                "adapters of this model were switched after it was wrapped",
                where=type(self.model).__name__,
                expected="the adapters that acted then",
                do="Switch them back, or wrap the model again.",
            )

    @cached_property
    def blocks(self) -> nn.ModuleList:
        """The decoder blocks; entry l is layer l."""
        return decoder_blocks(self.model)

    @property
    def base(self) -> nn.Module:
        """The model without its language-model head."""
        return self.model.base_model

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self._text_config.hidden_size)

    @property
    def context(self) -> int:
        """Largest number of tokens, prompt and answer together."""
        return int(getattr(self._text_config, "max_position_embeddings", None) or _UNLIMITED)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the generation config's and the tokenizer's, those the model can produce."""
        eos = getattr(self.model.generation_config, "eos_token_id", None)
        ids = {self.tokenizer.eos_token_id, *(eos if isinstance(eos, (list, tuple)) else (eos,))}
        return tuple(sorted(i for i in ids if i is not None and 0 <= i < self._text_config.vocab_size))

    @property
    def pad_id(self) -> int:
        """A token to pad with, one that the model knows; it is masked, so any will do."""
        pad = self.tokenizer.pad_token_id
        if pad is not None and pad < self.vocabulary:
            return int(pad)
        return self.stop_ids[0] if self.stop_ids else 0

    @cached_property
    def vocabulary(self) -> int:
        """How many tokens the model knows: the rows of its embedding."""
        return _rows(self.model)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.model.dtype

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, template: Mapping[str, object] | None = None
) -> LanguageModel:
    """`model` and its tokenizer as a LanguageModel: frozen, in evaluation mode, and tested by a short probe.

    What torch.compile or PEFT put around the model is taken off; adapters inside it go on acting.

    template: options of the chat template, such as {"enable_thinking": False}; the tokenizer is then a copy whose
    template has them set. Raises PsrError for a model without decoder blocks, one that cannot be run or computes something
    else with a key-value cache than without, a tokenizer with more tokens than the model, and an option that the template
    does not use.

        >>> psr.wrap(lm.model, lm.tokenizer).fingerprint == lm.fingerprint
        True
    """
    model = cast("PreTrainedModel", underlying(model))
    decoder_blocks(model)
    _check_vocabulary(model, tokenizer)
    model.eval().requires_grad_(False)
    if template:
        tokenizer = with_options(tokenizer, template)
    one = fingerprint(model, tokenizer)
    check_reading(model)
    config = model.config
    return LanguageModel(
        model,
        tokenizer,
        one,
        named(getattr(config, "_name_or_path", None) or "", getattr(config, "_commit_hash", None)),
    )


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse another model's tokenizer. Single tokens that were added and never learned are refused where they are used."""
    added = set(tokenizer.get_added_vocab())
    check_ids(
        [i for token, i in tokenizer.get_vocab().items() if token not in added], _rows(model), type(model).__name__
    )


def _rows(model: PreTrainedModel) -> int:
    embedding = getattr(model, "get_input_embeddings", None)
    return int(embedding().weight.shape[0]) if embedding is not None else _UNLIMITED
