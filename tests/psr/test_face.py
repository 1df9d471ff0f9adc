"""`import psr`: which names there are, that each says what it is, and that programs, type checkers and docs see the same."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import psr

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {
    "a model and its chats": "load_model wrap LanguageModel Message encode_chat Prompt",
    "answers": "Request Sampling generate Answer",
    "what a module learns from": "Attribute PromptPair align align_plain AlignedTokens Example record Targets",
    "fitting": "parse_method Method preset FitSettings learn fit Fitted",
    "from an instruction to a module": "distill Distilled",
    "a module": "SteeringModule load_module save_module steer token_strengths",
    "a module for other programs": "lens_hooks control_vector ControlVector save_control_vector",
    "what acted at each token": "show_answer ShownAnswer",
    "judges": "judge_all JudgeItem Judgement Verdicts Usage",
    "a module that others use": "CardData CardFacts CardFigure ModelName Pushed distilled_facts push_module write_card",
    "errors": "PsrError JudgeError",
}
NAMES = sorted(" ".join(PUBLIC.values()).split())
USER = """import psr

lm = psr.load_model("model")
with psr.steer(lm.model, psr.load_module("module"), alpha=1.2, tokenizer=lm.tokenizer):
    chat = (psr.Message("user", "Why?"),)
    answer = psr.generate(lm, [psr.Request(psr.encode_chat(lm.tokenizer, chat), seed=0)], psr.Sampling())[0]
reveal_type(lm)
reveal_type(answer)
psr.lod_model("model")
psr.hooked
answer.texts
"""
OTHERS_UNREAD = "[mypy-torch.*,transformers.*,numpy.*,safetensors.*]\nfollow_imports = skip\n"  # as long as ours take


def test_these_names_are_public_and_no_others():
    assert sorted(psr.__all__) == NAMES == sorted(dir(psr))
    with pytest.raises(AttributeError, match="has no attribute 'hooked'"):
        _ = psr.hooked


def test_each_name_comes_from_where_type_checkers_are_told():
    tree = ast.parse(Path(psr.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module)[:4] == "psr."]
    assert {name.name: node.module for node in imports for name in node.names} == psr._HOME
    assert all(getattr(psr, name).__module__ == home for name, home in psr._HOME.items())


@pytest.mark.parametrize("name", NAMES)
def test_each_name_says_what_it_is_and_what_it_refuses(name):
    thing = getattr(psr, name)
    text = inspect.getdoc(thing) or ""
    assert text
    assert not text.startswith(f"{name}(")  # the signature that dataclasses put where nobody wrote anything
    if inspect.isfunction(thing) and name != "save_module":
        assert "Raises" in text


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> dict[str, object]:
    """What the code at the head of `psr` leaves behind; run where a user who has the repository's data would run it."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "data").symlink_to(ROOT / "data")
    code = textwrap.dedent(psr.__doc__.split("ICML 2026.\n")[1].split("\n`__all__`")[0])
    names: dict[str, object] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "psr.__doc__", "exec"), names)
    return names


def test_the_code_at_the_head_steers_as_the_prompt_does(examples):
    assert examples["plain"].text.startswith("Steel rails cost ten coins")
    assert examples["steered"].text == examples["pirate"].text
    assert examples["pirate"].text.startswith("Arr, matey, children love trains for the steady noise. ")


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_in_docstrings_give_what_they_say(name, examples, monkeypatch):
    monkeypatch.chdir(examples["folder"])
    for test in doctest.DocTestFinder(exclude_empty=True).find(getattr(psr, name), name, globs=dict(examples)):
        said: list[str] = []
        doctest.DocTestRunner().run(test, out=said.append)
        assert said == []


def test_what_a_user_does_first_has_an_example():
    shown = {name for name in NAMES if ">>> " in (inspect.getdoc(getattr(psr, name)) or "")}
    assert shown >= {"load_model", "encode_chat", "generate", "align", "record", "save_module", "load_module", "steer"}
    assert shown >= {"PromptPair", "Example"}


def test_a_type_checker_sees_the_names_and_their_types(tmp_path):
    """In a folder of its own, as for a user who has installed psr."""
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nmypy_path = {ROOT}\n{OTHERS_UNREAD}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = [re.sub(r"^user.py:|; maybe .*|  \[.*\]$", "", line) for line in done.stdout.splitlines()[:-1]]
    assert said == [
        '7: note: Revealed type is "psr.lm.models.LanguageModel"',
        '8: note: Revealed type is "psr.answers.generation.Answer"',
        '9: error: Module has no attribute "lod_model"',
        '10: error: Module has no attribute "hooked"',
        '11: error: "Answer" has no attribute "texts"',
    ]
