import json
import socket

import pytest
import torch
import transformers
from families import CONTEXT, D_MODEL, FAMILIES, LAYERS, family, tokenizer
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

from psr.errors import PsrError
from psr.lm.fingerprints import fingerprint
from psr.lm.loading import load_model
from psr.lm.models import wrap


def _save(folder, model=None, using=None):
    logging.disable_progress_bar()
    (model or FAMILIES["llama"]()).save_pretrained(folder)
    (using or tokenizer("system")).save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


def _refused(match, *args, **settings):
    with pytest.raises(PsrError, match=match) as caught:
        load_model(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_bit_exact_without_a_word_or_a_connection(name, tmp_path, monkeypatch, capfd):
    _save(tmp_path, FAMILIES[name](), tokenizer("words"))
    capfd.readouterr()

    def connect(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    lm = load_model(tmp_path)
    assert capfd.readouterr() == ("", "")
    expected = FAMILIES[name]().state_dict()
    assert lm.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in lm.model.state_dict().items())
    assert lm.fingerprint == fingerprint(FAMILIES[name](), lm.tokenizer)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_of_a_model(name):
    lm = family(name)
    assert (lm.n_layers, lm.d_model, lm.context) == (LAYERS, D_MODEL, CONTEXT)
    assert len(lm.blocks) == LAYERS
    assert (lm.stop_ids, lm.pad_id, lm.device.type) == ((2,), 0, "cpu")
    assert lm.base is lm.model.base_model
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert not lm.model.training


def test_a_saved_model_and_its_tokenizer_keep_their_name(tmp_path):
    assert load_model(_save(tmp_path)).fingerprint == wrap(FAMILIES["llama"](), tokenizer("system")).fingerprint


def test_wrapping_freezes_and_stops_dropout():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=300, n_embd=8, n_layer=2, n_head=2)).train()
    lm = wrap(model, tokenizer("base"))
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_stop_tokens_come_from_the_generation_config_and_the_tokenizer(tmp_path):
    _save(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [4, 7, 99_999]}))
    assert load_model(tmp_path).stop_ids == (2, 4, 7)  # an id that the model cannot produce is left out


def test_a_model_without_a_pad_token_pads_with_a_stop_token(tmp_path):
    using = tokenizer.__wrapped__("system")
    using.pad_token = None
    assert load_model(_save(tmp_path, using=using)).pad_id == 2


@pytest.mark.parametrize(("name", "kind"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_the_dtype_asked_for_is_the_dtype_of_every_weight(name, kind, tmp_path):
    assert {parameter.dtype for parameter in load_model(_save(tmp_path), dtype=name).model.parameters()} == {kind}


def test_loading_leaves_the_callers_logging_as_it_was(tmp_path):
    _save(tmp_path)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(tmp_path)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_an_unknown_dtype_is_refused(tmp_path):
    assert "float32, bfloat16, float16" in _refused("unknown dtype", tmp_path, dtype="int3")


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused(device, tmp_path):
    assert device in _refused("this device is not available", tmp_path, device=device)


def test_a_missing_folder_is_refused(tmp_path):
    assert "nowhere" in _refused("the model folder is missing", tmp_path / "nowhere")


def test_a_folder_without_a_config_is_refused(tmp_path):
    (_save(tmp_path) / "config.json").unlink()
    _refused("not a model folder", tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "no-such-type"}'])
def test_a_broken_config_is_refused(text, tmp_path):
    (_save(tmp_path) / "config.json").write_text(text)
    _refused("the model's config cannot be read", tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    (_save(tmp_path) / "model.safetensors").unlink()
    assert "got no weights" in _refused("no safetensors weights", tmp_path)


def test_pickled_weights_are_never_loaded(tmp_path):
    (_save(tmp_path) / "model.safetensors").unlink()
    torch.save(FAMILIES["llama"]().state_dict(), tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin" in _refused("no safetensors weights", tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights_are_refused(keep, tmp_path):
    weights = _save(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    _refused("the model's weights cannot be read", tmp_path)


def test_weights_that_lack_a_tensor_are_refused_with_its_name(tmp_path):
    weights = _save(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in _refused("the model's weights are incomplete", tmp_path)


def test_a_config_with_more_layers_than_weights_is_refused(tmp_path):
    _edit_config(_save(tmp_path), num_hidden_layers=LAYERS + 1)
    _refused("the model's weights are incomplete", tmp_path)


def test_weights_of_other_shapes_are_refused(tmp_path):
    _edit_config(_save(tmp_path), intermediate_size=64)
    _refused("the model's weights cannot be read", tmp_path)


def test_a_missing_shard_is_refused(tmp_path):
    FAMILIES["llama"]().save_pretrained(tmp_path, max_shard_size="40KB")
    tokenizer("system").save_pretrained(tmp_path)
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    _refused("the model's weights cannot be read", tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    for file in [file for file in _save(tmp_path).iterdir() if "token" in file.name]:
        file.unlink()
    _refused("tokenizer", tmp_path)


SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 300,
}


def test_an_encoder_is_refused(tmp_path):
    _save(tmp_path, BertForMaskedLM(BertConfig(**SMALL)))
    assert "BertForMaskedLM" in _refused("not a causal language model", tmp_path)


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    _save(
        tmp_path,
        T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=300)),
    )
    _refused("not a causal language model", tmp_path)


def test_the_trunk_of_a_model_without_its_head_is_refused(tmp_path):
    _save(tmp_path, FAMILIES["llama"]().base_model)
    assert "LlamaModel" in _refused("not a causal language model", tmp_path)


def test_a_folder_that_wants_to_run_its_own_code_is_refused(tmp_path):
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    _edit_config(_save(tmp_path), model_type="own", auto_map=code)
    (tmp_path / "own.py").write_text("raise SystemExit('the code ran')")
    assert "trust_remote_code" in _refused("the model's config cannot be read", tmp_path)
