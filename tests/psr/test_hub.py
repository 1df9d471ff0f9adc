"""A model of the hub: only by its commit, out of the cache where it is there, and in one line where it cannot be had."""

import json
import shutil
import socket
import time
from fnmatch import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
from families import FAMILIES, tokenizer
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from test_models import _save

from psr.errors import PsrError
from psr.lm import devices
from psr.lm import hub as psr_hub
from psr.lm.loading import load_model
from psr.lm.models import wrap

NAME, COMMIT = "someone/some-model", "0123456789abcdef0123456789abcdef01234567"
EXPECTED = wrap(FAMILIES["llama"](), tokenizer("system")).fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of this commit in an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache/models--someone--some-model/snapshots" / COMMIT


@pytest.fixture
def hub(tmp_path, cache, monkeypatch):
    """A hub with the model; what was fetched from it."""
    _save(tmp_path / "hub")
    (tmp_path / "hub/pytorch_model.bin").write_bytes(b"a pickle")
    (tmp_path / "hub/modeling.py").write_text("raise SystemExit")
    fetched, real = [], huggingface_hub.snapshot_download

    def snapshot_download(*, repo_id, revision, allow_patterns, local_files_only=False):
        if local_files_only:
            return real(repo_id, revision=revision, allow_patterns=allow_patterns, local_files_only=True)
        assert (repo_id, revision) == (NAME, COMMIT)
        names = [file.name for file in (tmp_path / "hub").iterdir()]
        for name in (name for name in sorted(names) if any(fnmatch(name, one) for one in allow_patterns)):
            cache.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "hub" / name, cache / name)
            fetched.append(name)
        _list(cache, names)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, revision, timeout: None)
    return fetched


def _list(cache, names):
    """The cache's list of the files of the commit, as the hub's library writes it."""
    from huggingface_hub._tree_cache import TREE_CACHE_FORMAT_VERSION

    entry = {"size": 1, "blob_id": "0" * 40}
    listing = {"format_version": TREE_CACHE_FORMAT_VERSION, "files": dict.fromkeys(sorted(names), entry)}
    path = cache.parents[1] / "trees" / f"{COMMIT}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listing))


def _refused(match, name=NAME, **settings):
    with pytest.raises(PsrError, match=match) as caught:
        load_model(name, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _unreachable(monkeypatch):
    def model_info(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", model_info)


def test_its_safetensors_and_tokenizer_are_fetched_and_nothing_else(hub):
    assert load_model(NAME, revision=COMMIT).fingerprint == EXPECTED
    assert "model.safetensors" in hub
    assert not [name for name in hub if name.endswith((".bin", ".py"))]


def test_what_does_not_fit_is_refused_before_its_weights_are_fetched(hub, monkeypatch):
    monkeypatch.setattr(devices, "available", lambda device: 1000)
    _refused("does not fit the memory", revision=COMMIT)
    assert "config.json" in hub
    assert "model.safetensors" not in hub


def test_a_second_time_nobody_is_asked(hub, monkeypatch):
    load_model(NAME, revision=COMMIT)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("the hub was asked"))
    hub.clear()
    assert load_model(NAME, revision=COMMIT).fingerprint == EXPECTED
    assert hub == []


def test_what_is_missing_in_the_cache_is_fetched(hub, cache):
    load_model(NAME, revision=COMMIT)
    (cache / "model.safetensors").unlink()
    hub.clear()
    assert load_model(NAME, revision=COMMIT).fingerprint == EXPECTED
    assert hub == ["model.safetensors"]


def test_a_cache_that_somebody_else_began_is_filled(hub, cache, tmp_path):
    """Only its config was ever asked for, and no list says so."""
    cache.mkdir(parents=True)
    shutil.copy(tmp_path / "hub/config.json", cache)
    assert load_model(NAME, revision=COMMIT).fingerprint == EXPECTED


def test_a_cache_without_a_list_serves_without_the_hub(cache, monkeypatch):
    _save(cache)
    _unreachable(monkeypatch)
    assert load_model(NAME, revision=COMMIT).fingerprint == EXPECTED


def test_without_a_revision_it_is_refused_and_said_what_is_needed():
    assert "commit that is meant as its revision" in _refused("the model folder is missing")


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT + "0", COMMIT.upper(), ""])
def test_a_revision_that_may_move_is_refused(revision):
    assert "another model tomorrow" in _refused("has to be a commit", revision=revision)


def test_a_folder_has_no_revision(tmp_path):
    _refused("only a model of the hub has a revision", _save(tmp_path / "model"), revision=COMMIT)


@pytest.mark.parametrize("name", ["a/b/c", "some where", "../nowhere"])
def test_what_is_neither_a_path_nor_a_name_is_refused(name):
    _refused("neither a path nor a name on the hub", name, revision=COMMIT)


def test_without_a_network_it_is_refused_at_once():
    began = time.monotonic()
    _refused("the hub cannot be reached", revision=COMMIT)
    assert time.monotonic() - began < 5


def test_an_address_that_is_looked_up_for_ever_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(psr_hub, "_PATIENCE", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    began = time.monotonic()
    assert "no answer within 0.2 s" in _refused("the hub cannot be reached", revision=COMMIT)
    assert time.monotonic() - began < 2


def test_offline_the_hub_is_not_asked(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("an address was looked up"))
    assert "HF_HUB_OFFLINE=0" in _refused("not in the hub's cache", revision=COMMIT)


def test_a_model_that_the_hub_does_not_have_is_refused(monkeypatch):
    response = SimpleNamespace(status_code=404, headers={}, request=None)

    def model_info(*_, **__):
        raise RepositoryNotFoundError("no such model", response=response)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    assert "no such model" in _refused("the hub does not give this model", revision=COMMIT)
