"""Which models pass the probes and are steered as written out by hand, and which are refused with the reason."""

import copy
import warnings

import pytest
import torch
from families import FAMILIES, VOCABULARY, tokenizer
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from written import IDS, generated, greedy, strong_module

from psr.errors import PsrError
from psr.lm.models import wrap
from psr.steering.hooks import steer

USING = tokenizer("system")
_BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
HYBRID = {
    "jamba": {
        **_BASE,
        "num_experts": 2,
        "mamba_d_state": 4,
        "mamba_expand": 2,
        "mamba_dt_rank": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "qwen3_next": {
        **_BASE,
        **_MOE,
        "head_dim": 8,
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "lfm2": _BASE,
    "falcon_h1": {**_BASE, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4},
    "granitemoehybrid": {
        **_BASE,
        "layer_types": ["mamba", "attention"] * 2,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 4,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "shared_intermediate_size": 16,
    },
}
ATTENTION = {
    "deepseek_v3": {
        **_BASE,
        **_MOE,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "n_group": 1,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "qk_nope_head_dim": 8,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": {**_BASE, "head_dim": 8, "num_local_experts": 4},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": True},
    "ctrl": {"n_embd": 32, "n_layer": 3, "n_head": 4, "dff": 48},
}
KEEPS_NO_CACHE = "does not keep what it reads in the key-value cache|cache that knows its length, got ValueError"
REFUSED = {
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}, KEEPS_NO_CACHE),
    "mamba2": (
        {"hidden_size": 32, "num_hidden_layers": 3, "num_heads": 8, "head_dim": 8, "state_size": 4, "n_groups": 1},
        KEEPS_NO_CACHE,
    ),
    "rwkv": (
        {"hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32, "intermediate_size": 48},
        "takes no key-value cache that is known here",
    ),
    "xlstm": (
        {"hidden_size": 32, "num_blocks": 2, "num_hidden_layers": 2, "num_heads": 4},
        "cannot be read with a key-value cache",
    ),
    "xlnet": ({"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48}, "do not return one residual stream"),
    "gemma3n_text": (
        {
            **_BASE,
            "intermediate_size": [48] * 4,
            "head_dim": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        r"do not return one residual stream.*got \(4, \d, \d, 32\)",
    ),
}


def tiny(kind, settings):
    config = CONFIG_MAPPING[kind](vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def check_steered(model):
    """Wrapped without a word, and steered as without a cache."""
    module = strong_module(wrap(model, USING).fingerprint, layers=range(min(3, model.config.num_hidden_layers)))
    with steer(model, module, 1.0, USING):
        (got,) = generated(model, IDS, 4)
    return got, greedy(model, IDS, 4, module)


@pytest.mark.parametrize("kind", [*HYBRID, *ATTENTION])
def test_a_model_with_attention_passes_and_is_steered_as_by_hand(kind):
    got, expected = check_steered(tiny(kind, {**HYBRID, **ATTENTION}[kind]))
    got.check(expected)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_family_passes_in_half_precision(name, dtype):
    got, expected = check_steered(copy.deepcopy(FAMILIES[name]()).to(dtype))
    # a mixture of experts may send one token elsewhere for the smallest difference
    far = (got.logits[0].float() - expected.logits[0].float()).norm() / expected.logits[0].float().norm()
    assert float(far) < 0.1


@pytest.mark.parametrize("kind", HYBRID)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_hybrid_model_passes_in_half_precision_where_its_states_are_rounded(kind, dtype):
    check_steered(tiny(kind, HYBRID[kind]).to(dtype))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_followed_is_refused_when_it_is_wrapped_and_when_it_is_steered(kind):
    settings, reason = REFUSED[kind]
    model = tiny(kind, settings)
    with pytest.raises(PsrError, match=type(model).__name__):
        wrap(model, USING)
    for call in (lambda: wrap(model, USING), lambda: steer(model, strong_module("any", layers=(0, 1))).__enter__()):
        with pytest.raises(PsrError, match=reason) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_model_with_rounded_weights_passes():
    model = copy.deepcopy(FAMILIES["llama"]())
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            step = layer.weight.abs().amax(dim=1, keepdim=True) / 7  # four bits
            layer.weight.data = (layer.weight / step).round() * step
    got, expected = check_steered(model)
    got.check(expected)


def test_a_model_whose_linear_layers_hold_eight_bit_numbers_passes():
    class Eight(nn.Module):
        """As bitsandbytes keeps them: small numbers and a scale, multiplied in the activations' dtype."""

        def __init__(self, linear):
            super().__init__()
            scale = linear.weight.abs().amax(dim=1, keepdim=True) / 127
            self.weight = nn.Parameter((linear.weight / scale).round().to(torch.int8), requires_grad=False)
            self.register_buffer("scale", scale)

        def forward(self, x):
            return x @ (self.weight.to(x.dtype) * self.scale.to(x.dtype)).T

    model = copy.deepcopy(FAMILIES["llama"]())
    for module in list(model.model.layers.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Eight(child))
    got, expected = check_steered(model)
    got.check(expected)


def test_a_model_whose_numbers_depend_on_what_is_read_together_is_refused():
    """torch's dynamic quantisation rounds activations by the largest of all tokens in a forward."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(FAMILIES["llama"]()), {nn.Linear}, dtype=torch.qint8
        )
    with pytest.raises(PsrError, match="reading with a cache and reading the whole text at once differ"):
        wrap(model, USING)
