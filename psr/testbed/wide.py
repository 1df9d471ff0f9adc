"""A random language model of a realistic width, and a random module for it, to measure speed with.

Nothing is downloaded: the model is built from its config, with the tokenizer of a loaded one.
"""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from psr.lm.devices import DTYPES
from psr.lm.models import LanguageModel, wrap
from psr.steering.forms import form_named, init_params
from psr.steering.module import SteeringModule

HEAD = 64  # width of an attention head


def random_model(like: LanguageModel, width: int, layers: int, dtype: str) -> LanguageModel:
    """A Llama of this width and depth on the device of `like`, with its tokenizer; the weights are drawn from seed 0.

    width: a multiple of 64; dtype: one of psr.lm.devices.DTYPES.
    """
    config = LlamaConfig(
        vocab_size=len(like.tokenizer),
        max_position_embeddings=like.context,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        intermediate_size=11 * width // 4,
    )
    with torch.random.fork_rng(), torch.device(like.device):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    return wrap(model, like.tokenizer)


def random_module(lm: LanguageModel) -> SteeringModule:
    """An all-layer PSR module on span R with its initial parameters."""
    layers = tuple(range(lm.n_layers))
    params = init_params(form_named("PSR"), len(layers), lm.d_model, torch.Generator().manual_seed(0))
    return SteeringModule("random", "PSR", layers, "R", lm.fingerprint, params)
