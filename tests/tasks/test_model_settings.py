"""The model of a run: opened once, with what its parameters say of its chat template."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

from psr.errors import PsrError
from psr.lm.loading import load_model
from tasks.asking.models import ModelSettings, open_model

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data/testbed/model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped model with a template that has an option."""
    tokenizer = copy.deepcopy(load_model(MODEL).tokenizer)
    tokenizer.chat_template += "{% if not (thinking | default(true)) %} yes{% endif %}"
    shutil.copytree(MODEL, tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_settings_with_equal_options_are_equal_in_whatever_order_they_are_written():
    one, other = (
        ModelSettings("x", "float32", "cpu", 1, template=options) for options in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    )
    assert one == other
    assert hash(one) == hash(other)


def test_the_options_of_the_parameters_reach_the_template(folder):
    plain, option = (
        open_model(ModelSettings(str(folder), "float32", "cpu", 1, template=template))
        for template in ({}, {"thinking": False})
    )
    chat = [{"role": "user", "content": "Tell me about trains."}]
    texts = [
        lm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for lm in (plain, option)
    ]
    assert texts[1] == texts[0] + " yes"
    assert plain.fingerprint != option.fingerprint


def test_an_option_that_the_template_does_not_know_is_refused():
    with pytest.raises(PsrError, match=r"takes no notice of this option.*'thinking'"):
        open_model(ModelSettings(str(MODEL), "float32", "cpu", 1, template={"thinking": False}))


def test_auto_is_what_it_comes_to_in_the_settings_and_in_the_key(monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    auto, named = ModelSettings(str(MODEL), "auto", "auto", 1), ModelSettings(str(MODEL), "bfloat16", "cpu", 1)
    assert auto == named
    assert auto.reads == (open_model(named).fingerprint, "bfloat16", "cpu", 1)
    assert open_model(auto).dtype == torch.bfloat16


def test_a_revision_reaches_the_loading():
    commit = "0123456789abcdef0123456789abcdef01234567"
    with pytest.raises(PsrError, match=r"only a model of the hub has a revision.*0123456789abcdef"):
        open_model(ModelSettings(str(MODEL), "float32", "cpu", 1, revision=commit))
