"""Tiny random language models of many families and tokenizers with many chat templates, built offline and seeded.

FAMILIES[name]() -> PreTrainedModel      cached: do not change it, copy it
tokenizer(template, kind)                cached too
family(name) -> LanguageModel            the model with the kind of template its family has
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from psr.lm.models import LanguageModel, wrap

VOCABULARY, D_MODEL, LAYERS, CONTEXT = 300, 32, 3, 128
PAD, BOS, EOS, START, END = "<pad>", "<bos>", "<eos>", "<|start|>", "<|end|>"
SPECIAL = (PAD, BOS, EOS, START, END)

_LLAMA = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
}
_GEMMA = {
    **_LLAMA,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_MOE = {"num_experts_per_tok": 2}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _LLAMA),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3_text": ("gemma3_text", _GEMMA),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": 16}),
    "phi3": ("phi3", {**_LLAMA, "original_max_position_embeddings": CONTEXT}),
    "gpt2": ("gpt2", {"n_embd": D_MODEL, "n_layer": LAYERS, "n_head": 4, "n_positions": CONTEXT}),
    "gpt_neox": ("gpt_neox", {**_LLAMA, "num_key_value_heads": 4}),
    "opt": ("opt", {"hidden_size": D_MODEL, "word_embed_proj_dim": D_MODEL, "num_hidden_layers": LAYERS, "ffn_dim": 48,
                    "num_attention_heads": 4, "max_position_embeddings": CONTEXT}),
    "mixtral": ("mixtral", {**_LLAMA, **_MOE, "num_local_experts": 3}),
    "qwen2_moe": ("qwen2_moe", {**_LLAMA, **_MOE, "num_experts": 4, "moe_intermediate_size": 16,
                                "shared_expert_intermediate_size": 16}),
}  # fmt: skip
NATURAL_TEMPLATE = {
    "llama": "dated", "qwen2": "default_system", "qwen3": "system", "gemma2": "no_system", "gemma3_text": "no_system",
    "mistral": "brackets", "phi3": "strips", "gpt2": "base", "gpt_neox": "base", "opt": "base_bos",
    "mixtral": "last_user", "qwen2_moe": "default_system",
}  # fmt: skip


@cache
def _model(name: str) -> PreTrainedModel:
    kind, settings = CONFIGS[name]
    config = CONFIG_MAPPING[kind](vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings)
    generator = torch.Generator().manual_seed(sorted(CONFIGS).index(name))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():  # every weight, norms and biases too, gets a value of its own
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval().requires_grad_(False)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {name: partial(_model, name) for name in CONFIGS}


@cache
def family(name: str) -> LanguageModel:
    """The tiny model called `name` with a byte-level tokenizer and its family's kind of chat template."""
    return wrap(FAMILIES[name](), tokenizer(NATURAL_TEMPLATE[name]))


_CHATML = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}"
)
TEMPLATES: dict[str, str | None] = {
    "system": _CHATML,
    "strips": _CHATML.replace("m.content", "m.content | trim"),
    "default_system": "{% if messages[0].role != 'system' %}<|start|>system\nThe sun is in the sky.<|end|>\n{% endif %}"
    + _CHATML.replace("{{ bos_token }}", ""),
    "no_system": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + _ALTERNATE + _CHATML.replace("m.content", "m.content | trim"),
    "ignores_system": "{{ bos_token }}{% for m in messages if m.role != 'system' %}<|start|>{{ m.role }}\n"
    "{{ m.content }}<|end|>\n{% endfor %}<|start|>assistant\n",
    "dated": "{{ bos_token }}<|start|>system\nToday is in the sun.\n\n{% if messages[0].role == 'system' %}"
    "{{ messages[0].content | trim }}{% endif %}<|end|>{% for m in messages if m.role != 'system' %}"
    "<|start|>{{ m.role }}\n\n{{ m.content | trim }}<|end|>{% endfor %}<|start|>assistant\n\n",
    "brackets": "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}" + _ALTERNATE
    + "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "last_user": "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for m in messages %}<|start|>"
    "{{ (system if loop.last else '') + m.content }}<|end|>{% endfor %}",
    "words": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}assistant:",
    "base": None,
    "base_bos": None,
}  # fmt: skip

_MERGES = (
    "t h", "th e", "i n", "e r", "a n", "Ġ t", "Ġ a", "Ġ s", "Ġ the", "Ġ in", "s u", "su n", "Ċ Ċ", ". Ċ",
    ". ĊĊ", "? Ċ", "! ĊĊ", "] Ċ", "Ċ t", "Ċ W", "ĊĊ W", "s k", "sk y",
)  # fmt: skip
_WORDS = (
    "the sun is in sky what color of a why how tell me about answer be brief verse you can today system user assistant"
)
_SIGNS = "[ ] / < > : . ? !"


def _byte_level(use_regex: bool) -> Tokenizer:
    """Byte-level BPE; without the regular expression merges cross the borders between words and lines."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in _MERGES)]
    pairs = [tuple(merge.split(" ")) for merge in _MERGES]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces() -> Tokenizer:
    """BPE in SentencePiece's manner: spaces are ▁, one stands in front of each text, unknown ones become bytes."""
    letters = [chr(code) for code in range(33, 127)]
    merges = [("▁", letter) for letter in "abcdefghiW"] + [("t", "h"), ("th", "e")]
    bytes_ = [f"<0x{byte:02X}>" for byte in (*range(9, 14), 0xC3, 0xA9)]
    tokens = [*SPECIAL, "<unk>", *bytes_, "▁", *letters, *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _word_level() -> Tokenizer:
    """Whole lower-case words; line ends are words of their own."""
    tokens = [*SPECIAL, "<unk>", *_WORDS.split(), *_SIGNS.split(), "\n"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Punctuation(),
        ]
    )
    return tokenizer


_MAKERS = {
    "byte": partial(_byte_level, True), "unsplit": partial(_byte_level, False), "pieces": _pieces, "words": _word_level,
}  # fmt: skip
KINDS = tuple(_MAKERS)


@cache
def tokenizer(template: str = "system", kind: str = "byte") -> PreTrainedTokenizerBase:
    """A tokenizer of at most VOCABULARY tokens. template: a key of TEMPLATES; kind: one of KINDS."""
    core = _MAKERS[kind]()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if template == "base_bos":
        core.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 1)]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, extra_special_tokens=[START, END]
    )
    wrapped.chat_template = TEMPLATES[template]
    return wrapped
