"""A tiny Llama as a GGUF file, written as llama.cpp's converter writes one: rows of q and k in its own order, blocks of 32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}
_CONTROL, _NORMAL = 3, 1


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    using: PreTrainedTokenizerBase,
    *,
    blocks: bool = False,
    without: str = "",
    pre: str = "default",
) -> dict[str, torch.Tensor]:
    """Write the file, and give the state dict that it stands for: with `blocks`, the matrices rounded to 8 bits."""
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, using, config.vocab_size, pre)
    expected: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        stem = name.removesuffix(".weight")
        for ours, theirs in _NAMES.items():
            stem = stem.replace(ours, theirs)
        values = tensor.numpy().astype(np.float32)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(stem_part(name))
        if heads:
            values = _interleaved(values, heads)
        kind = None
        if blocks and values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = GGMLQuantizationType.Q8_0
            values = quantize(values, kind)
        read = dequantize(values, kind) if kind else values
        expected[name] = torch.from_numpy(_halves(read, heads) if heads else read).clone()
        if name != without:
            writer.add_tensor(f"{stem}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def stem_part(name: str) -> str:
    return name.split(".")[-2]


def _interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from (half, pair) to (pair, half), as llama.cpp turns them."""
    return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def _halves(values: np.ndarray, heads: int) -> np.ndarray:
    return values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def _add_tokenizer(writer: GGUFWriter, using: PreTrainedTokenizerBase, rows: int, pre: str) -> None:
    vocabulary = {index: token for token, index in using.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([vocabulary.get(index, f"<unused {index}>") for index in range(rows)])
    special = set(using.all_special_ids)
    writer.add_token_types(
        [_CONTROL if index in special or index not in vocabulary else _NORMAL for index in range(rows)]
    )
    merges = json.loads(using.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_pad_token_id(using.pad_token_id)
    writer.add_bos_token_id(using.bos_token_id)
    writer.add_eos_token_id(using.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(using.chat_template)
