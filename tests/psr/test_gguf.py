"""A model in one GGUF file is loaded as what it stands for, and refused where it is not whole."""

import importlib.util
import shutil

import pytest
import torch
from families import FAMILIES, tokenizer
from gguf_files import write_gguf
from transformers import AutoModelForCausalLM
from transformers.utils import logging
from written import IDS

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm import sources
from psr.lm.chats import Prompt, encode_chat
from psr.lm.loading import load_model
from psr.types import Message

USING = tokenizer("system")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, FAMILIES["llama"](), USING)
    return path


def refused(match, *args, **settings):
    with pytest.raises(PsrError, match=match) as caught:
        load_model(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([IDS])).logits


def test_the_weights_are_the_ones_that_were_written(file, capfd):
    lm = load_model(file)
    assert capfd.readouterr() == ("", "")
    state = lm.model.state_dict()
    for name, tensor in FAMILIES["llama"]().state_dict().items():
        assert torch.equal(state[name], tensor), name
    torch.testing.assert_close(logits(lm.model), logits(FAMILIES["llama"]()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_weights_are_unpacked_as_the_format_says(dtype, tmp_path):
    expected = write_gguf(tmp_path / "tiny.gguf", FAMILIES["llama"](), USING, blocks=True)
    lm = load_model(tmp_path / "tiny.gguf", dtype=dtype)
    original = FAMILIES["llama"]().state_dict()
    assert any(not torch.equal(expected[name], original[name]) for name in expected)
    for name, tensor in lm.model.state_dict().items():
        assert tensor.dtype == lm.dtype
        assert torch.equal(tensor, expected[name].to(lm.dtype)), name


def test_the_logits_are_those_of_transformers_own_loading(tmp_path):
    write_gguf(tmp_path / "tiny.gguf", FAMILIES["llama"](), USING, blocks=True)
    logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    logging.enable_progress_bar()
    assert torch.equal(logits(load_model(tmp_path / "tiny.gguf").model), logits(theirs))


def test_it_speaks_its_chats_and_stops_where_it_should(file):
    lm = load_model(file)
    assert lm.stop_ids == (USING.eos_token_id,)
    chat = (Message("system", "Be brief."), Message("user", "What color is the sky?"))
    assert encode_chat(lm.tokenizer, chat) == encode_chat(USING, chat)
    (answer,) = generate(lm, [Request(Prompt(IDS, 2), 0)], Sampling(4, 0.0))
    assert answer.token_ids


@pytest.mark.parametrize(("pre", "pieces"), [("default", ["Ċ", "Ċ", "1", "2"]), ("smollm", ["ĊĊ", "1", "2"])])
def test_digits_are_split_off_first_where_the_file_says_so(pre, pieces, tmp_path):
    """The merge Ċ Ċ is reached where the line ends stand alone, and not where they are cut before a number."""
    write_gguf(tmp_path / "tiny.gguf", FAMILIES["llama"](), USING, pre=pre)
    assert load_model(tmp_path / "tiny.gguf").tokenizer.tokenize("\n\n12") == pieces


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_as_a_folder_it_is_the_same_model(dtype, file, tmp_path):
    lm = load_model(file, dtype=dtype)
    logging.disable_progress_bar()
    lm.model.save_pretrained(tmp_path / "folder")
    logging.enable_progress_bar()
    lm.tokenizer.save_pretrained(tmp_path / "folder")
    assert load_model(tmp_path / "folder", dtype=dtype).fingerprint == lm.fingerprint


@pytest.mark.parametrize("begins", [b"", b"PK\x03\x04", b"GGU"])
def test_another_file_is_refused(begins, tmp_path):
    (tmp_path / "model.gguf").write_bytes(begins)
    refused("this file is not a GGUF file", tmp_path / "model.gguf")


@pytest.mark.parametrize("keep", [4, 30, 2000, -1])
def test_a_file_that_was_cut_off_is_refused(keep, file):
    file.write_bytes(file.read_bytes()[:keep])
    refused("cannot be read", file)


def test_a_file_that_lacks_a_tensor_is_refused_with_its_name(tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    write_gguf(tmp_path / "tiny.gguf", FAMILIES["llama"](), USING, without=name)
    assert name in refused("the model's weights are incomplete", tmp_path / "tiny.gguf")


def test_an_architecture_that_transformers_does_not_read_is_refused(file):
    file.write_bytes(file.read_bytes().replace(b"llama", b"lIama"))
    assert "lIama" in refused("cannot be read", file)


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_without_the_packages_that_read_it_the_extra_is_named(package, file, monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None if name == package else importlib.util.find_spec(name))
    said = refused(f"got no {package}\\b", file)
    assert "[gguf]" in said


def test_in_a_folder_without_config_the_file_is_named(file):
    assert "tiny.gguf" in refused("not a model folder", file.parent)


def test_its_folder_may_hold_another_model(file, tmp_path):
    """The file that is named counts, and no config beside it."""
    logging.disable_progress_bar()
    FAMILIES["qwen2"]().save_pretrained(tmp_path / "other")
    logging.enable_progress_bar()
    alone = load_model(file).fingerprint
    shutil.copytree(tmp_path / "other", tmp_path, dirs_exist_ok=True)
    assert load_model(file).fingerprint == alone
