import copy
import hashlib
import warnings
from pathlib import Path

import pytest
import torch
from families import FAMILIES, family, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import psr.lm.fingerprints
from psr.lm.fingerprints import akin, fingerprint
from psr.lm.loading import load_model
from psr.types import short_hash


def _llama():
    return copy.deepcopy(FAMILIES["llama"]())


def _name(model, using=None):
    return fingerprint(model, using or tokenizer("system"))


def test_it_is_two_short_hex_numbers_and_the_same_every_time():
    first = _name(_llama())
    kin, own = first.split("-")
    assert (len(kin), len(own)) == (12, 8)
    assert min(int(kin, 16), int(own, 16)) >= 0
    assert first == _name(_llama())


def test_no_two_families_share_one():
    assert len({family(name).fingerprint for name in FAMILIES}) == len(FAMILIES)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_single_changed_weight_changes_it(data):
    model = copy.deepcopy(FAMILIES["gemma2"]())  # tied embeddings
    before = _name(model)
    parameter = data.draw(st.sampled_from(list(model.parameters())))
    at = data.draw(st.integers(0, parameter.numel() - 1))
    flat = parameter.view(-1)
    flat[at] = torch.nextafter(flat[at], flat[at] + 1)
    assert _name(model) != before


def test_it_is_the_same_however_the_weights_are_streamed(monkeypatch):
    before = _name(_llama())
    monkeypatch.setattr(psr.lm.fingerprints, "_CHUNK", 7)
    assert _name(_llama()) == before


def test_it_does_not_depend_on_how_a_tensor_lies_in_memory():
    model = _llama()
    before = _name(model)
    weight = model.lm_head.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    assert _name(model) == before


@pytest.mark.parametrize(
    ("family_name", "key", "value"),
    [
        ("llama", "rms_norm_eps", 1e-3),
        ("llama", "rope_parameters", {"rope_theta": 500.0, "rope_type": "default"}),
        ("gemma2", "sliding_window", 4),
        ("gemma2", "final_logit_softcapping", 3.0),
        ("qwen2_moe", "num_experts_per_tok", 1),
        ("opt", "_remove_final_layer_norm", True),
    ],
)
def test_config_keys_that_change_answers_change_it(family_name, key, value):
    model = copy.deepcopy(FAMILIES[family_name]())
    before = _name(model)
    setattr(model.config, key, value)
    assert _name(model) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [("_name_or_path", "elsewhere"), ("use_cache", False), ("transformers_version", "0"), ("attention_dropout", 0.1)],
)
def test_config_keys_that_do_not_change_answers_do_not_change_it(key, value):
    model = _llama()
    before = _name(model)
    setattr(model.config, key, value)
    assert _name(model) == before


def test_the_attention_kernel_does_not_change_it():
    model = AutoModelForCausalLM.from_config(_llama().config, attn_implementation="sdpa")
    model.load_state_dict(FAMILIES["llama"]().state_dict())
    assert _name(model) == _name(_llama())


def test_the_dtype_changes_it_and_leaves_the_two_akin():
    half, whole = _name(_llama().bfloat16()), _name(_llama())
    assert half != whole
    assert akin(half, whole)


def test_a_weight_changed_by_more_than_rounding_makes_another_model():
    model = _llama()
    before = _name(model)
    model.model.norm.weight.data[0] *= 1.01
    assert not akin(_name(model), before)


def test_a_weight_changed_by_less_than_rounding_is_still_another_copy():
    model = _llama()
    model.model.norm.weight.data[0] = 1.0
    before = _name(model)
    model.model.norm.weight.data[0] = 1.0001
    assert _name(model) != before
    assert akin(_name(model), before)


def test_another_tokenizer_is_never_akin():
    assert not akin(_name(_llama(), tokenizer("base")), _name(_llama()))


def test_the_stop_tokens_change_it():
    model = _llama()
    before = _name(model)
    model.generation_config.eos_token_id = [2, 4]
    assert _name(model) != before


@pytest.mark.parametrize("other", ["default_system", "base"])
def test_the_chat_template_changes_it(other):
    assert _name(_llama(), tokenizer(other)) != _name(_llama())


@pytest.mark.parametrize("kind", ["unsplit", "pieces", "words"])
def test_vocabulary_and_splitting_rules_change_it(kind):
    assert _name(_llama(), tokenizer("system", kind)) != _name(_llama())


def test_an_added_token_changes_it_and_a_padded_call_does_not():
    mine = copy.deepcopy(tokenizer("system"))
    mine(["the sun", "the"], padding=True, truncation=True, max_length=4)
    assert _name(_llama(), mine) == _name(_llama())
    mine.add_tokens(["sunny"])
    assert _name(_llama(), mine) != _name(_llama())


@pytest.mark.parametrize("family_name", ["llama", "gemma2"])
def test_without_adapters_it_is_weights_config_stops_and_tokenizer_and_nothing_else(family_name):
    """Modules that were fitted name it: the way it is computed must not change."""
    model, kin, own = copy.deepcopy(FAMILIES[family_name]()).bfloat16(), "", ""
    for name, weight in sorted(model.state_dict().items()):
        shape, numbers = tuple(weight.shape), weight.contiguous().view(torch.uint8).numpy().tobytes()
        kin += f"{name} {hashlib.sha256(f'float {shape} '.encode() + numbers).hexdigest()}\n"
        own += f"{name} {hashlib.sha256(f'torch.bfloat16 {shape} '.encode() + numbers).hexdigest()}\n"
    rest = (
        psr.lm.fingerprints._config(model),
        psr.lm.fingerprints._stops(model),
        psr.lm.fingerprints._tokenizer(tokenizer("system")),
    )
    kin, own = (hashlib.sha256(text.encode()).hexdigest() for text in (kin, own))
    assert _name(model) == f"{short_hash('model', kin, *rest)[:12]}-{short_hash('model', own, *rest)[:8]}"


def _quantised(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def test_a_quantised_layers_weights_count_too():
    model = _llama()
    before = _name(_quantised(_llama()))
    assert before == _name(_quantised(_llama())) != _name(model)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] += 0.5
    assert not akin(_name(_quantised(model)), before)


def test_the_shipped_models_fingerprint_is_the_one_that_modules_made_so_far_name():
    assert load_model(Path(__file__).resolve().parents[2] / "data/testbed/model").fingerprint == "59c11f0a8cef-18a6b37f"
