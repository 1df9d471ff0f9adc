"""Parameters: typed, frozen, and refused with the known names listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows import params
from flows.estimate import amounts
from flows.sections import Profile
from flows.settings import check_questions
from psr.errors import PsrError
from psr.evaluation.claims import GOAL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a copy of params.yaml whose defaults have other values: edited({"distill.lr": 3})."""

    def edit(changes: dict[str, Any], drop: str = "", profiles: dict[str, Any] | None = None) -> Path:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for dotted, value in changes.items():
            *above, last = dotted.split(".")
            section = values["defaults"]
            for step in above:
                section = section[int(step) if step.isdecimal() else step]
            section[last] = value
        if drop:
            name, key = drop.split(".")
            del values["defaults"][name][key]
        if profiles is not None:
            values["profiles"] = profiles
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        return tmp_path

    return edit


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_every_shipped_profile_is_valid(profile):
    settings = params.load(ROOT, profile)
    assert settings.model.threads >= 1
    assert settings.model.trust_remote_code is False


def test_sections_are_frozen():
    settings = params.load(ROOT, "quick")
    with pytest.raises(ValidationError, match="frozen"):
        settings.distill.lr = 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distill.lrr": 0.1}, ["unknown parameter distill.lrr", "preset", "epochs"]),
        ({"extras": {}}, ["unknown parameter extras", "model", "benchmarks"]),
        ({"benchmarks.0.names": []}, ["unknown parameter benchmarks.0.names", "attributes", "methods"]),
        ({"benchmarks": []}, ["benchmarks", "at least 1"]),
        (
            {"benchmarks": [{"name": "persona", "path": "a", "attributes": ["b"]}] * 2},
            ["a benchmark is named twice", "persona"],
        ),
        ({"benchmarks.0.methods": ["a-psr-mse"]}, ["unknown method", "profile quick", "'a-psr-mse'"]),
        ({"benchmarks.0.methods": []}, ["benchmarks.0.methods", "at least 1"]),
        ({"seeds": []}, ["seeds", "at least 1"]),
        ({"seeds": [1, 2, 1]}, ["seeds", "a seed is named twice"]),
        ({"steer.with_prompt": ["a-psr-ll-r"]}, ["steer.with_prompt", "a-psr-ll-r", "which methods does not"]),
        ({"search.factors": [1, 0.5]}, ["search", "factors must rise"]),
        ({"search.factors": [0, 1]}, ["search.factors.0", "greater than 0"]),
        ({"methods": ["a-psr-mse"]}, ["unknown method", "a-psr-mse-qr", "'a-psr-mse'"]),
        ({"methods": []}, ["methods", "at least 1"]),
        ({"methods": ["a-psr-mse-qr", "A-PSR MSE·QR"]}, ["a method is named twice", "a-psr-mse-qr"]),
        ({"model.dtype": "float8"}, ["model.dtype", "'float32'", "'float8'"]),
        ({"model.revision": "main"}, ["model.revision", "40 hex digits", "'main'"]),
        ({"benchmarks.0.name": "mmlu"}, ["unknown benchmark", "persona", "my_lab.benchmarks:Mine", "'mmlu'"]),
        ({"benchmarks.0.name": "my_lab.songs:SONGS"}, ["the benchmark cannot be imported", "No module named 'my_lab'"]),
        ({"benchmarks.0.name": "psr.errors:PsrError"}, ["this is no benchmark", "load (reads a folder's attributes)"]),
        ({"benchmarks.0.name": "axbench"}, ["search.factors is missing", "axbench"]),
        ({"judge.name": "gpt"}, ["unknown judge", "testbed", "my_lab.judges:Mine", "'gpt'"]),
        ({"judge.name": "my_lab.judges:Strict"}, ["the judge cannot be imported", "No module named 'my_lab'"]),
        ({"judge.name": "psr.errors:PsrError"}, ["this is no judge", "a dataclass whose first fields are benchmark"]),
        ({"judge.strict": True}, ["unknown setting of judge testbed", "has no settings", "'strict'"]),
        ({"distill.epochs": 0}, ["distill.epochs", "greater than 0", "0"]),
        ({"distill.lr": float("nan")}, ["distill.lr", "nan"]),
        ({"search.alphas": [1, 2]}, ["search", "alphas must rise from 0"]),
        ({"search.alphas": [0, 2, 1]}, ["search", "alphas must rise from 0"]),
        ({"search.alphas": [0, 9]}, ["search", "alpha_max"]),
        ({"select.min_trait": 2}, ["select.min_trait", "less than or equal to 1"]),
        (
            {"steer.seed": 13, "faithfulness.seed": 13},
            ["faithfulness samples under 13 to 13", "steer under 13 to 13", "choose another faithfulness.seed"],
        ),
        (
            {"steer.seed": 13, "faithfulness.seed": 12, "seeds": [1, 2]},
            ["faithfulness samples under 12 to 13", "steer under 13 to 14"],
        ),
        (
            {"steer.seed": 13, "faithfulness.seed": 18, "seeds": [1, 2, 3], "steer.samples": 2},
            ["samples under 18 to 20", "steer under 13 to 18"],
        ),
        ({"faithfulness.questions": 0}, ["faithfulness.questions", "greater than 0"]),
        ({"complete.seed": "one"}, ["complete.seed", "valid integer", "'one'"]),
        ({"model": "gpt2"}, ["model", "'gpt2'"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(edited, changes, words):
    with pytest.raises(PsrError) as raised:
        params.load(edited(changes), "quick")
    line = str(raised.value)
    assert "\n" not in line
    assert all(word in line for word in [*words, "params.yaml"]), line


@pytest.mark.parametrize("first", [11, 17])
def test_answers_beside_those_of_steer_are_faithfulness_own(edited, first):
    path = edited({"faithfulness.seed": first, "seeds": [1, 2], "steer.samples": 2})  # steer: 13 to 16
    assert params.load(path, "quick").faithfulness.seed == first


def test_full_has_the_seeds_that_the_claims_need():
    settings = params.load(ROOT, "full")
    assert len(settings.seeds) == GOAL
    small = params.load(ROOT, "quick")
    made = (
        amounts(small, ROOT)["faithfulness"],
        amounts(small.model_copy(update={"seeds": (1, 2)}), ROOT)["faithfulness"],
    )
    assert made[1].count == 2 * made[0].count
    assert [amount.text for amount in made] == ["72 answers taken apart", "144 answers taken apart"]


def test_a_missing_parameter_is_named(edited):
    with pytest.raises(PsrError, match=r"missing parameter steer\.seed"):
        params.load(edited({}, drop="steer.seed"), "quick")


def test_several_problems_are_said_at_once(edited):
    with pytest.raises(PsrError, match=r"distill\.lrr.*steer\.seed"):
        params.load(edited({"distill.lrr": 1, "steer.seed": "x"}), "quick")


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(PsrError, match=r"unknown profile \(params.yaml\), expected one of quick, .*full.*got 'quik'"):
        params.load(ROOT, "quik")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quick: [", "no valid YAML"),
        ("", "no sections"),
        ("- a\n- b\n", "no sections"),
        ("quick: {a: \x00}", "no valid YAML"),
        ("quick: {model: {}}", "another layout.*`defaults`.*`profiles`.*got quick"),
        ("defaults: {}\nprofiles: {a: {}, b: {}, a: {}}", "no valid YAML.*'a' is there twice"),
        ("defaults: {}\nprofiles: {quick: {}}", "cannot have this name.*'quick'"),
        ("defaults: {}\nprofiles: {testbed: {}}", "cannot have this name.*'testbed'"),
        ("defaults: {}\nprofiles: {a/b: {}}", "cannot have this name.*'a/b'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, words):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PsrError, match=words):
        params.load(tmp_path, "quick")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PsrError, match="parameters are missing"):
        params.load(tmp_path, "quick")


def test_methods_are_kept_as_slugs_however_they_are_written(edited):
    settings = params.load(edited({"methods": ["A-PSR MSE·QR", "s-const-dim-r"]}), "quick")
    assert settings.methods == ("a-psr-mse-qr", "s-const-dim-r")


def test_attributes_may_be_written_with_their_benchmark_but_not_twice(edited):
    assert params.load(edited({"benchmarks.0.attributes": ["persona/pirate"]}), "quick").benchmarks[0].attributes == (
        "pirate",
    )
    with pytest.raises(PsrError, match=r"benchmarks\.0\.attributes: an attribute is named twice"):
        params.load(edited({"benchmarks.0.attributes": ["persona/pirate", "pirate"]}), "quick")


def test_a_profile_says_what_differs_and_has_the_defaults_for_the_rest(edited):
    folder = edited({}, profiles={"mine": {"distill": {"epochs": 3}, "seeds": [1, 2], "model": {"template": {"x": 1}}}})
    mine, quick = (params.load(folder, name) for name in ("mine", "quick"))
    assert (mine.distill.epochs, mine.seeds, mine.model.template) == (3, (1, 2), {"x": 1})
    assert mine.distill.model_copy(update={"epochs": 12}) == quick.distill
    assert mine.model_dump(exclude={"distill", "seeds", "model"}) == quick.model_dump(
        exclude={"distill", "seeds", "model"}
    )
    assert params.profiles(folder) == ("quick", "mine")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"distil": {"epochs": 3}}, ["unknown parameter distil, expected one of distill, ", "profile mine"]),
        ({"distill": {"epoch": 3}}, ["unknown parameter distill.epoch, expected one of epochs, ", "profile mine"]),
        ({"distill": 3}, ["distill: input should be", "got 3", "profile mine"]),
        ({"methods": "all"}, ["methods: input should be a valid tuple", "'all'"]),
        ([1], ["a profile is no block of sections", "[1]"]),
    ],
)
def test_a_block_that_is_wrong_is_said_with_the_nearest_names_first(edited, block, words):
    with pytest.raises(PsrError) as raised:
        params.load(edited({}, profiles={"mine": block}), "mine")
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_set_changes_one_run(edited):
    changes = ["distill.epochs=6", "seeds=[1, 2]", "benchmarks.0.attributes=[pirate]", "methods.0=s-const-caa-r"]
    settings = params.load(ROOT, "quick", changes)
    assert (settings.distill.epochs, settings.seeds, settings.benchmarks[0].attributes) == (6, (1, 2), ("pirate",))
    assert settings.methods[0] == "s-const-caa-r"
    assert params.load(ROOT, "quick").distill.epochs == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("distill.epoch=6", ["unknown parameter distill.epoch, expected one of epochs, ", "--set distill.epoch=6"]),
        ("distill.epochs=six", ["distill.epochs: input should be a valid integer", "'six'", "--set"]),
        ("distil.epochs=6", ["unknown parameter (--set), expected one of distill, "]),
        ("methods.9=a", ["unknown parameter (--set)", "methods.9"]),
        ("distill.epochs", ["nothing can be set by this (--set), expected SECTION.KEY=VALUE"]),
        ("distill.epochs=[", ["the value is no YAML (--set)"]),
    ],
)
def test_a_set_that_is_wrong_is_one_clear_line(change, words):
    with pytest.raises(PsrError) as raised:
        params.load(ROOT, "quick", [change])
    assert all(word in str(raised.value) for word in words), str(raised.value)


@given(st.dictionaries(st.sampled_from(["epochs", "batch_size", "layer"]), st.integers(1, 50), min_size=1))
def test_set_and_a_block_say_the_same(values):
    block = params._merged(yaml.safe_load((ROOT / "params.yaml").read_text())["defaults"], {"distill": values})
    by_set = params.load(ROOT, "quick", [f"distill.{key}={value}" for key, value in values.items()])
    assert by_set == Profile.model_validate(block)


def test_settings_are_written_resolved_and_read_back(tmp_path):
    settings = params.load(ROOT, "full")
    params.write_settings(tmp_path, "full", settings, lambda path: f"hash of {path}")
    values = yaml.safe_load((tmp_path / "data/full/settings.yaml").read_text())
    assert params.written(tmp_path, "full") == settings
    assert values["model"]["trust_remote_code"] is False  # the code's defaults stand there too
    assert values["inputs"]["benchmarks"]["axbench"] == "hash of data/testbed/axbench"
    assert values["plugs"] == {"benchmarks": {}, "judge": {}, "methods": {}}
    before = (tmp_path / "data/full/settings.yaml").stat().st_mtime_ns
    params.write_settings(tmp_path, "full", settings, lambda path: f"hash of {path}")
    assert (tmp_path / "data/full/settings.yaml").stat().st_mtime_ns == before


def test_an_attribute_that_is_not_there_or_that_the_judge_does_not_know_is_refused(edited, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_questions(params.load(ROOT, "full"))
    with pytest.raises(PsrError, match=r"unknown attribute.*pirate.*'grumpy'"):
        check_questions(params.load(edited({"benchmarks.0.attributes": ["pirate", "grumpy"]}), "quick"))
    shutil.copytree(ROOT / "data/testbed/persona", tmp_path / "persona")
    for side in ("extract", "eval"):
        shutil.copy(tmp_path / f"persona/{side}/pirate.json", tmp_path / f"persona/{side}/grumpy.json")
    settings = params.load(
        edited({"benchmarks.0.path": str(tmp_path / "persona"), "benchmarks.0.attributes": ["pirate", "grumpy"]}),
        "quick",
    )
    with pytest.raises(
        PsrError, match=r"cannot be judged \(judge testbed-persona\), got persona/grumpy \(unknown trait"
    ):
        check_questions(settings)


def test_the_searched_amount_counts_what_persona_is_asked_for_at_most():
    quick, full = (params.load(ROOT, name) for name in ("quick", "full"))
    asked = (
        3 * (2 + 4 * (4 + 1 + 2 * 2)) * 48 * 2
    )  # attributes · (plain, prompt, methods · (grid, alpha_max, two points)) · answers
    assert amounts(quick, ROOT)["search"].count == asked
    formats = full.model_copy(update={"benchmarks": tuple(one for one in full.benchmarks if one.name == "ifeval")})
    assert amounts(formats, ROOT)["search"].count == 0  # no search: alpha is 1


def test_auto_is_written_as_what_it_comes_to_on_this_machine(edited, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    for capable, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: {"avx512_bf16": capable})
        settings = params.load(edited({"model.dtype": "auto", "model.device": "auto"}), "quick")
        assert (settings.model.dtype, settings.model.device) == (dtype, "cpu")
        params.write_settings(tmp_path, "quick", settings, lambda path: "")
        written = yaml.safe_load((tmp_path / "data/quick/settings.yaml").read_text())
        assert (written["model"]["dtype"], written["model"]["device"]) == (dtype, "cpu")
        assert params.written(tmp_path, "quick") == settings


def test_a_model_of_the_hub_counts_by_its_commit_and_is_not_hashed(edited, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    settings = params.load(edited({"model.path": "owner/model", "model.revision": commit}), "quick")
    hashed: list[str] = []
    params.write_settings(tmp_path, "quick", settings, lambda path: hashed.append(path) or "hash")
    written = yaml.safe_load((tmp_path / "data/quick/settings.yaml").read_text())
    assert written["inputs"]["model"] == commit
    assert hashed == ["data/testbed/persona"]


def test_a_method_of_ones_own_is_handed_to_fits_by_its_path_and_called_by_its_slug_elsewhere(edited):
    path = "tests.psr.own_methods:TWICE"
    for prompted in (path, "s-const-twice-r", "S-Const Twice·R"):
        folder = edited({"methods": [path, "S-Const DiM·R"], "steer.with_prompt": [prompted]})
        settings = params.load(folder, "quick")
        params.write_settings(folder, "quick", settings, content=lambda name: f"hash of {name}")
        again = params.written(folder, "quick")
        assert again == settings
        assert again.methods == (path, "s-const-dim-r")
        assert again.steer.with_prompt == ("s-const-twice-r",)
        text = yaml.safe_load((folder / "data/quick/settings.yaml").read_text())
        assert list(text["plugs"]["methods"]) == [path]
    with pytest.raises(PsrError, match="unknown form"):
        params.load(edited({"methods": ["tests.psr.own_methods:NO_FORM"]}), "quick")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("data/models/smollm2", "python -m flows.fetch smollm2"),
        ("owner/model", "--set model.revision=COMMIT (40 hex digits)"),
        ("data/models/mine", "Put it there."),
    ],
)
def test_a_missing_model_is_refused_with_how_to_get_it(path, advice, edited, tmp_path):
    def content(path: str) -> str:
        raise PsrError("an input is missing", where=path, do="Put it there.")

    with pytest.raises(PsrError, match="an input is missing") as raised:
        params.write_settings(tmp_path, "quick", params.load(edited({"model.path": path}), "quick"), content)
    assert path in str(raised.value)
    assert advice in str(raised.value)


def test_a_profile_may_differ_from_another_one_instead_of_the_defaults(edited):
    profiles = {
        "far": {"like": "near", "distill": {"layer": 5}, "search": {"alphas": [0, 3]}},
        "near": {"distill": {"epochs": 9, "layer": 4}, "seeds": [7], "search": {"alphas": [0, 1, 2]}},
        "plain": {"like": "quick", "seeds": [8]},
    }
    folder = edited({}, profiles=profiles)
    quick, near, far, plain = (params.load(folder, name) for name in ("quick", "near", "far", "plain"))
    assert (near.distill.epochs, near.distill.layer) == (9, 4)
    assert (far.distill.epochs, far.distill.layer, far.seeds, far.search.alphas) == (9, 5, (7,), (0, 3))
    assert far.distill.lr == quick.distill.lr
    assert plain == quick.model_copy(update={"seeds": (8,)})
    assert params.load(folder, "far", ["distill.epochs=2"]).distill.epochs == 2


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ({"a": {"like": "nobody"}}, r"unknown profile \(params.yaml, profile a, like\), .*got 'nobody'"),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "a profile is like itself .*got a → b → a"),
        ({"a": {"like": ["quick"]}}, r"unknown profile .*like"),
        ({"a": {"like": "b"}, "b": [1]}, r"no block of sections \(params.yaml, profile b\)"),
    ],
)
def test_a_profile_that_is_like_none_is_refused(edited, profiles, words):
    with pytest.raises(PsrError, match=words):
        params.load(edited({}, profiles=profiles), "a")


@pytest.mark.parametrize(("wanted", "kept"), [(3, 3), (["pirate"], ("pirate",))])
def test_attributes_are_named_or_counted(edited, wanted, kept):
    folder = edited({"benchmarks.0.attributes": wanted})
    settings = params.load(folder, "quick")
    assert settings.benchmarks[0].attributes == kept
    params.write_settings(folder, "quick", settings, lambda path: "")
    assert params.written(folder, "quick") == settings


@pytest.mark.parametrize("wanted", [0, [], "pirate", None])
def test_attributes_that_are_neither_are_refused_in_one_line(edited, wanted):
    with pytest.raises(PsrError, match=r"benchmarks\.0\.attributes: ") as raised:
        params.load(edited({"benchmarks.0.attributes": wanted}), "quick")
    assert "tuple" not in str(raised.value).partition(":")[0]
    assert "\n" not in str(raised.value)
