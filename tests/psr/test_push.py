"""A module goes to a stand-in for the hub, and comes back by its name; what should not become public stays here."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import family
from hub_stand_in import TOKEN, standing_in
from huggingface_hub import constants
from typer.testing import CliRunner
from written import strong_module

import psr
from psr import cli
from psr.artefact.hub import FILES
from psr.errors import PsrError

ROOT = Path(__file__).resolve().parents[2]
NAME, BASE = "someone/my-pirate", "maker/tiny"
FACTS = psr.CardFacts(
    attribute="persona/pirate",
    figures=(psr.CardFigure("this module", "effect", 90.0, 80.0, 99.0, 16, 0, 1.25, "likelihood"),),
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, with the base model; an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with standing_in() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        pages = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pages)
        yield hub


@pytest.fixture
def folder(hub, tmp_path):
    """A module of a public base model, with its card, and a file that is nobody's business."""
    return carded(hub, tmp_path / "module")


def carded(hub, folder, facts=FACTS, **base):
    commit = hub.add(BASE, config_json="{}", **base)
    module = replace(strong_module(family("llama").fingerprint), base=psr.ModelName(BASE, commit))
    psr.write_card(psr.save_module(module, folder), facts)
    (folder / "answers.jsonl").write_text("private answers")
    return folder


def pushed(hub, folder, name=NAME, token=TOKEN, **options):
    return psr.push_module(folder, name, token=token, endpoint=hub.url, **options)


def refused(says, *arguments, **options):
    with pytest.raises(PsrError, match=says) as caught:
        pushed(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_three_files_go_in_one_commit_and_no_other_file_of_the_folder(hub, folder):
    done = pushed(hub, folder)
    repository = hub.repositories[NAME]
    assert list(repository.commits) == [done.commit]
    assert not repository.private
    assert repository.commits[done.commit] == {name: (folder / name).read_bytes() for name in FILES}


def test_it_is_loaded_by_its_name_and_commit_equal_to_the_local_one(hub, folder):
    done = pushed(hub, folder)
    local, loaded = psr.load_module(folder), psr.load_module(NAME, revision=done.commit)
    assert {k: v for k, v in vars(loaded).items() if k != "tensors"} == {
        k: v for k, v in vars(local).items() if k != "tensors"
    }
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in local.tensors.items())
    cached = {path.name for path in Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*")}
    assert cached == set(FILES) - {"README.md"}, "only what is loaded is fetched"


def test_a_second_time_the_hub_is_not_asked(hub, folder):
    done = pushed(hub, folder)
    psr.load_module(NAME, revision=done.commit)
    hub.asked.clear()
    psr.load_module(NAME, revision=done.commit)
    assert hub.asked == []


def test_pushed_again_after_a_change_it_is_another_commit_and_the_first_stays(hub, folder):
    first = pushed(hub, folder)
    psr.save_module(replace(psr.load_module(folder), id="second"), folder)
    second = pushed(hub, folder)
    assert first.commit != second.commit
    assert psr.load_module(NAME, revision=second.commit).id == "second"
    assert psr.load_module(NAME, revision=first.commit).id != "second"


def test_a_module_of_the_hub_needs_its_commit(hub, folder):
    pushed(hub, folder)
    for revision, says in (
        ("main", "has to be a commit"),
        (None, "give the commit that is meant"),
        ("0" * 40, "does not give this module"),
    ):
        with pytest.raises(PsrError, match=says):
            psr.load_module(NAME, revision=revision)
    with pytest.raises(PsrError, match="only a module of the hub has a revision"):
        psr.load_module(folder, revision="0" * 40)


def test_a_push_of_a_module_whose_base_is_private_is_refused_unless_it_is_private_too(hub, tmp_path):
    folder = carded(hub, tmp_path / "module", private=True)
    assert "--private" in refused("base model of this module is private", hub, folder)
    assert NAME not in hub.repositories, "nothing was made"
    assert ("POST /api/repos/create", TOKEN) not in hub.asked
    done = pushed(hub, folder, private=True)
    assert hub.repositories[NAME].private
    assert done.commit in hub.repositories[NAME].commits


def test_whether_the_base_is_public_is_asked_without_the_token(hub, folder):
    pushed(hub, folder)
    assert {token for asked, token in hub.asked if BASE in asked} == {None}


def test_a_base_that_the_hub_has_not_or_cannot_say_is_no_public_one(hub, folder):
    del hub.repositories[BASE]
    refused("is private, or is not on the hub", hub, folder)
    hub.broken = True
    refused("the hub cannot be asked", hub, folder)
    assert NAME not in hub.repositories


@pytest.mark.parametrize("base", [psr.ModelName(), psr.ModelName("my-model")])
def test_a_base_without_a_name_on_the_hub_is_refused_in_public(hub, folder, base):
    psr.save_module(replace(psr.load_module(folder), base=base), folder)
    assert "Fit it on the model by its name on the hub" in refused("has no name on the hub", hub, folder)
    assert hub.asked == []
    pushed(hub, folder, private=True)


def test_a_card_without_results_is_refused_unless_it_is_meant(hub, folder):
    psr.write_card(folder)
    refused("a card without results", hub, folder)
    (folder / "README.md").unlink()
    refused("the module has no card", hub, folder)
    assert hub.asked == []
    pushed(hub, folder, without_results=True)
    assert b"Not measured." in hub.repositories[NAME].commits[hub.repositories[NAME].newest]["README.md"]


def test_a_card_of_other_weights_is_refused_even_without_results(hub, folder):
    module = psr.load_module(folder)
    psr.save_module(replace(module, tensors={name: tensor + 1 for name, tensor in module.tensors.items()}), folder)
    refused("of other weights", hub, folder, without_results=True)


def test_a_card_whose_head_is_broken_is_refused(hub, folder):
    (folder / "README.md").write_text("---\na: [\n---\n")
    refused("head of the card cannot be read", hub, folder)


def test_a_repository_of_something_else_or_one_that_others_see_is_left_alone(hub, folder):
    hub.add(NAME, model_bin="a model")
    refused("holds something else", hub, folder)
    hub.add(NAME, config_json="{}")
    refused("this repository is public", hub, folder, private=True)


def test_a_token_that_may_not_write_and_a_hub_that_is_down_are_one_line(hub, folder):
    refused("does not take this module", hub, folder, token="hf_of_somebody_else")
    hub.url = "http://127.0.0.1:9"
    refused("the hub cannot be asked", hub, folder)


@pytest.mark.parametrize("name", ["pirate", "a/b/c", "some where/x", ""])
def test_what_is_no_name_on_the_hub_is_refused(hub, folder, name):
    refused("name on the hub", hub, folder, name)


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(hub, folder):
    done = CliRunner().invoke(cli.app, ["push", str(folder), NAME, "--dry-run"])
    assert done.exit_code == 0, done.stderr
    assert hub.asked == []
    assert all(f"{name}  {(folder / name).stat().st_size} bytes" in done.stdout for name in FILES)
    assert "answers.jsonl" not in done.stdout
    assert "public; nothing was sent" in done.stdout
    assert "90 (80 to 99)" in done.stdout


def test_show_says_what_a_module_of_the_hub_is_and_what_it_was_fitted_on(hub, folder):
    done = pushed(hub, folder)
    shown = CliRunner().invoke(cli.app, ["show", NAME, "--revision", done.commit], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.stderr
    assert f"{BASE} at {psr.load_module(folder).base.revision}" in shown.stdout


def test_nobody_who_is_not_logged_in_can_push(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = CliRunner().invoke(cli.app, ["push", str(folder), NAME])
    assert (done.exit_code, hub.asked) == (2, [])
    assert "nobody is logged in" in done.stderr


def test_pushed_by_the_command_it_is_loaded_by_its_name_in_a_fresh_process_and_steers_as_the_local_one(
    hub, folder, tmp_path
):
    lm = family("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    ours = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }

    def ran(*arguments, **more):
        command = [sys.executable, "-m", "psr.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ours, **more}, timeout=120)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    said = ran("push", folder, NAME, HF_TOKEN=TOKEN).splitlines()[-1].split()
    assert said[:4] == ["psr", "steer", "--module", NAME]
    options = ["steer", "--model", tmp_path / "model", "--max-new-tokens", 12, "What color is the sky?"]
    by_name, local = ran(*options, *said[2:]), ran(*options, "--module", folder)
    assert by_name == local
    plain, steered = local.split("steered by")
    assert plain.splitlines()[1] != steered.splitlines()[1], "it steers"
