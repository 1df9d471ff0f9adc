"""Where a causal LM keeps its decoder blocks, found by structure and not by a list of model classes, and what they return."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.exclusive import eager


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The ModuleList whose entries are the model's decoder blocks, in order; entry l is the paper's layer l (0-based).

    Of the lists with as many entries as the config has layers it is the one that holds the most parameters: lists of
    experts or of norms are smaller. Raises PsrError when there is none.
    """
    layers = _layer_count(model)
    lists = [module for module in _decoder(model).modules() if isinstance(module, nn.ModuleList) and len(module) > 0]
    candidates = [module for module in lists if layers is None or len(module) == layers]
    blocks = max(candidates, key=_parameter_count, default=None)
    if blocks is None or 2 * _parameter_count(blocks) < max(_parameter_count(module) for module in lists):
        raise PsrError(
            "found no decoder blocks in this model",
            where=type(model).__name__,
            expected=f"an nn.ModuleList of {layers or 'some'} transformer blocks",
            got=f"lists of {sorted({len(module) for module in lists})} entries" if lists else "no nn.ModuleList",
            do="Use a decoder-only language model.",
        )
    return blocks


@contextmanager
def recorded(model: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """While open, every forward fills {layer: [batch, token, d]} with what the blocks return.

    Opened inside a steering context it sees the steered activations. Gradients flow.
    """
    blocks = decoder_blocks(model)
    activations: dict[int, Tensor] = {}

    def hook_for(layer: int) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            activations[layer] = output if isinstance(output, Tensor) else output[0]

        return hook

    handles = []
    try:
        for layer in layers:
            handles.append(blocks[layer].register_forward_hook(hook_for(layer)))
        with eager():
            yield activations
    finally:
        for handle in handles:
            handle.remove()


class _Ended(Exception):
    """A forward has gone as far as it is wanted."""


@contextmanager
def ending_after(model: nn.Module, layer: int) -> Iterator[None]:
    """While open, a forward does not run the blocks after `layer`: it leaves the context, and returns nothing.

    Where others have hooks on the blocks, such as steering that checks that each was called, it runs to its end as always.

    Example:
        with ending_after(model, 3), recorded(model, (3,)) as activations:
            model(input_ids=ids)  # blocks 0 … 3
    """
    own = threading.get_ident()

    def end(block: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == own:  # another thread may be answering
            raise _Ended

    blocks = decoder_blocks(model)
    watched = any(block._forward_hooks for block in blocks)
    handles = [block.register_forward_pre_hook(end) for block in blocks[layer + 1 : layer + 2] if not watched]
    try:
        yield
    except _Ended:
        pass
    finally:
        for handle in handles:
            handle.remove()


def underlying(model: nn.Module) -> nn.Module:
    """The model of transformers inside what torch.compile or PEFT put around it; adapters inside it go on acting.

    Raises PsrError for adapters that are not inside but in front of it: learned prompts.
    """
    while True:
        config = getattr(model, "active_peft_config", None)
        if getattr(config, "is_prompt_learning", False):
            raise PsrError(
                "this adapter puts learned tokens in front of the prompt, which cannot be counted",
                where=type(model).__name__,
                expected="an adapter inside the model, such as LoRA",
                got=type(config).__name__,
                do="Steer the model without it.",
            )
        inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "_orig_mod", model)  # type: ignore[operator]
        if inner is model:
            return model
        model = inner  # type: ignore[assignment]


def check_in_memory(model: nn.Module) -> None:
    """Raise PsrError where a weight is not in memory (offloaded to the disk or the host by accelerate)."""
    away = next((name for name, tensor in model.named_parameters() if tensor.is_meta), None)
    if away is not None:
        raise PsrError(
            "a weight of this model is not in memory",
            where=away,
            expected="every weight on a device",
            got="an offloaded model",
            do="Load it without offloading: a smaller dtype, another device_map, or more memory.",
        )


def _decoder(model: nn.Module) -> nn.Module:
    """The part that decodes text, where the model names one (a model of text and images has encoders beside it)."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if get_decoder is not None else None
    return decoder if isinstance(decoder, nn.Module) else model


def _layer_count(model: nn.Module) -> int | None:
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "get_text_config"):
        config = config.get_text_config(decoder=True)  # a model of text and images nests the language model's
    return getattr(config, "num_hidden_layers", None)


def _parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
