"""Modules of a folder: those that fit are offered by their folder's name, the others are refused with the reason."""

import shutil
from dataclasses import replace

import pytest
from families import family
from served import folder_of, random_module

from psr.errors import PsrError
from psr.serve import registry as registries
from psr.serve.registry import Unknown, load_registry


def test_a_module_of_another_model_is_not_offered_and_says_why(toy, tmp_path):
    folder = folder_of(
        {"fits": random_module(toy, 1), "other": replace(random_module(toy, 2), model="0" * 16)}, tmp_path
    )
    folder_of({"narrow": random_module(family("llama"), 1)}, tmp_path)
    (folder / "broken").mkdir()
    (folder / "broken/adapter_config.json").write_text("{}", encoding="utf-8")
    found = load_registry(toy, folder, "toy")
    assert found.names == ["toy", "toy:fits"]
    assert sorted(found.refused) == ["broken", "narrow", "other"]
    for name, words in (("other", "another model"), ("narrow", "another width"), ("broken", "no adapter_model")):
        with pytest.raises(PsrError, match=words):
            found.steering("toy", [(name, 1.0)])
        with pytest.raises(PsrError, match=words):
            found.steering(f"toy:{name}", None)


def test_the_folder_of_one_module_offers_it_by_its_own_name(toy, tmp_path):
    folder = folder_of({"mine": random_module(toy, 1)}, tmp_path) / "mine"
    assert load_registry(toy, folder, "toy").names == ["toy", "toy:mine"]
    assert load_registry(toy, None).names == ["model"]


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_modules_is_refused(toy, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PsrError, match="no steering module"):
        load_registry(toy, tmp_path / folder)


def test_a_model_whose_name_has_a_colon_keeps_it(toy, tmp_path):
    found = load_registry(toy, folder_of({"mine": random_module(toy, 1)}, tmp_path), "a:b")
    assert found.steering("a:b", None) == ()
    assert [name for name, *_ in found.steering("a:b:mine", None)] == ["mine"]
    for name in ("a", "a:", "b", "a:mine"):
        with pytest.raises(Unknown):
            found.steering(name, None)


def test_files_that_change_while_they_are_read_are_refused(toy, tmp_path, monkeypatch):
    folder = folder_of({"mine": random_module(toy, 1), "other": random_module(toy, 2)}, tmp_path)
    load = registries.load_module

    def changing(place):
        module = load(place)
        shutil.copy(folder / "other/adapter_model.safetensors", place / "adapter_model.safetensors")
        return module

    monkeypatch.setattr(registries, "load_module", changing)
    assert "changed while they were read" in load_registry(toy, folder / "mine").refused["mine"]
