"""One short name for a model and its tokenizer: equal if and only if they give equal answers to equal chats.

It covers the content and dtype of every weight, the config keys that differ from the architecture's defaults, the stop
tokens, the tokenizer's rules and the chat template. It does not cover the device, the folder's name, the attention
kernel or library versions. Adapters that hang in the model (PEFT) count with whether and how strongly they act.

    rounded-exact     12 and 8 hex digits

`exact` is of this copy: bfloat16 answers differ from float32 ones, so records of the two must not be mixed up. `rounded` is
of the weights rounded to bfloat16: a module fitted in float32 steers the same model in bfloat16. float16 rounds
differently and so counts as another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from psr.lm.blocks import check_in_memory
from psr.types import short_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CHUNK = 1 << 24  # elements hashed at once, so that a large model is streamed and never copied whole
_KEYS_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "_model_name_or_path",
        "_attn_implementation",
        "_experts_implementation",
        "_commit_hash",
        "transformers_version",
        "architectures",
        "dtype",
        "torch_dtype",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "id2label",
        "label2id",
        "problem_type",
        "attn_implementation",
        "experts_implementation",
        "chunk_size_feed_forward",
        "task_specific_params",
        "auto_map",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "initializer_range",
    }
)


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """`rounded-exact` over weights, config, tokenizer and chat template. Reads every weight once: about 2 s per 2 GB.

    Raises PsrError where weights are not in memory (offloaded).
    """
    check_in_memory(model)
    rounded, exact = _weights(model)
    adapters = acting_adapters(model)
    rest = (_config(model), _stops(model), _tokenizer(tokenizer), *([adapters] if adapters else []))
    return f"{short_hash('model', rounded, *rest)[:12]}-{short_hash('model', exact, *rest)[:8]}"


def akin(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same model and tokenizer, if perhaps in another dtype."""
    return one.partition("-")[0] == other.partition("-")[0]


def _weights(model: PreTrainedModel) -> tuple[str, str]:
    seen: dict[tuple[Any, ...], tuple[str, str]] = {}  # tied weights are read once
    rounded, exact = hashlib.sha256(), hashlib.sha256()
    state = sorted(model.state_dict().items())
    for name, tensor in _tensors(state):
        key = (str(tensor.device), tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        digests = seen.get(key) or seen.setdefault(key, _digests(tensor))
        rounded.update(f"{name} {digests[0]}\n".encode())
        exact.update(f"{name} {digests[1]}\n".encode())
    return rounded.hexdigest(), exact.hexdigest()


def _tensors(state: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with its name; torch's quantised layers keep theirs in tuples, beside names of their types."""
    for name, value in state:
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (tuple, list)):
            yield from _tensors((f"{name}.{i}", inner) for i, inner in enumerate(value))


def _digests(tensor: Tensor) -> tuple[str, str]:
    """Of the tensor rounded to bfloat16, whatever dtype it has, and of the tensor as it is."""
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    kind = "float" if tensor.is_floating_point() else str(tensor.dtype)
    rounded, exact = (hashlib.sha256(f"{name} {tuple(tensor.shape)} ".encode()) for name in (kind, tensor.dtype))
    flat = tensor.detach().reshape(-1)
    for first in range(0, flat.numel(), _CHUNK):
        part = flat[first : first + _CHUNK].cpu().contiguous()
        exact.update(_bytes(part))
        rounded.update(_bytes(part.to(torch.bfloat16) if part.is_floating_point() else part))
    return rounded.hexdigest(), exact.hexdigest()


def _bytes(part: Tensor) -> memoryview:
    return part.view(torch.uint8).numpy().data


def _config(model: PreTrainedModel) -> str:
    config = model.config
    try:
        defaults = type(config)().to_dict()
    except Exception:  # a config that cannot be built without arguments has no defaults
        defaults = {}
    return json.dumps(_effective(config.to_dict(), defaults), sort_keys=True, default=str)


def _effective(values: dict[str, Any], defaults: Any) -> dict[str, Any]:
    """The keys of `values`, at any depth, that can change an answer and do not hold the architecture's default."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key) if isinstance(defaults, dict) else None
        if str(key) in _KEYS_WITHOUT_EFFECT or str(key).endswith(("dropout", "_pdrop")) or value == default:
            continue
        kept[str(key)] = _effective(value, default) if isinstance(value, dict) else value
    return kept


def acting_adapters(model: nn.Module) -> list[object]:
    """Each layer that carries adapters: which of them act, how strongly, and which are merged; [] where there are none."""
    states: list[object] = []
    for name, module in model.named_modules():
        if isinstance(getattr(module, "disable_adapters", None), bool):  # a layer of PEFT's; of a model it is a method
            acting = [] if module.disable_adapters else sorted(module.active_adapters)
            scaling = getattr(module, "scaling", None)
            scales = [float(scaling[one]) for one in acting if one in scaling] if isinstance(scaling, dict) else []
            states.append([name, acting, scales, sorted(getattr(module, "merged_adapters", ()))])
    return sorted(states, key=str)


def _stops(model: PreTrainedModel) -> list[int]:
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return sorted(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    parts = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": sorted(map(str, tokenizer.all_special_tokens)),
        "eos": tokenizer.eos_token_id,
        "bos": tokenizer.bos_token_id,
        "template": tokenizer.chat_template,
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        parts["rules"] = {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
        parts["merges"] = state["model"].get("merges")
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
