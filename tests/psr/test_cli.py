"""The `psr` command: what it prints, what it refuses and how it ends."""

import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from families import family
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from psr import cli
from psr.answers.generation import Answer, Request, generate
from psr.answers.sampling import Sampling
from psr.cli_text import clean
from psr.lm.chats import encode_chat
from psr.steering.module import SteeringModule, save_module
from psr.types import Message

ROOT = Path(__file__).resolve().parents[2]
QUESTION, SHORT = "What color is the sky?", ["--max-new-tokens", "6"]


def module_for(lm, **changes):
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(3, lm.d_model, generator=generator) for name in ("z", "w")}
    tensors["b"] = torch.tensor([0.5, 0.25, -1.0])
    origin = {"attribute": "persona/brief", "settings": {"lr": 0.001}, "figures": {"TA@Cp": 97.5}}
    given = {
        "id": "brief-1",
        "form": "PSR",
        "layers": (0, 1, 2),
        "span": "R",
        "model": lm.fingerprint,
        "origin": origin,
    }
    return SteeringModule(tensors=tensors, **{**given, **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model's folder and the folder of a module that fits it."""
    lm, place = family("llama"), tmp_path_factory.mktemp("cli")
    lm.model.save_pretrained(place / "model")
    lm.tokenizer.save_pretrained(place / "model")
    save_module(module_for(lm), place / "module")
    return place / "model", place / "module"


@pytest.fixture
def run(folders, monkeypatch):
    """Run `psr` with the folders filled in: psr(command, *arguments) -> result."""
    monkeypatch.setenv("COLUMNS", "100")

    def psr(command, *arguments, stdin=""):
        options = [] if command == "show" else ["--model", str(folders[0]), "--module", str(folders[1])]
        return CliRunner().invoke(cli.app, [command, *options, *map(str, arguments)], input=stdin)

    return psr


def test_steer_prints_the_plain_then_the_steered_answer_of_the_library(run, folders):
    lm = family("llama")
    prompt = encode_chat(lm.tokenizer, (Message("user", QUESTION),))
    requests = [Request(prompt, 3), Request(prompt, 3, module_for(lm), 0.7)]
    plain, steered = (clean(answer.text) for answer in generate(lm, requests, Sampling(6)))
    result = run("steer", "--alpha", 0.7, "--seed", 3, *SHORT, QUESTION)
    assert result.exit_code == 0
    assert plain != steered
    assert result.stdout == f"plain\n{plain} …\n\nsteered by brief-1, alpha 0.7\n{steered} …\n\n"
    assert result.stderr == ""


def test_steer_with_an_instruction_shows_the_prompted_answer_too(run):
    result = run("steer", "--instruction", "Answer in verse.", "--temperature", 0, *SHORT, QUESTION)
    assert result.exit_code == 0
    titles = [result.stdout.index(title) for title in ("plain\n", "instructed\n", "steered by brief-1, alpha 1\n")]
    assert titles == sorted(titles)


def test_without_a_length_the_answer_gets_what_fits_the_context(run, monkeypatch):
    asked = []

    def answers(lm, requests, sampling):
        asked.append(sampling.max_new_tokens + len(requests[0].prompt.ids))
        return [Answer((5,), "", True)] * len(requests)

    monkeypatch.setattr("psr.answers.generation.generate", answers)
    assert run("steer", QUESTION).exit_code == 0
    assert asked == [family("llama").context]


def test_model_text_is_shown_as_text(run, monkeypatch):
    answer = Answer((5,), "[red]:smile:[/nothing] \x1b[31mred\x1b[0m\x07 \u202egnp.exe", True)
    monkeypatch.setattr("psr.answers.generation.generate", lambda lm, requests, sampling: [answer] * len(requests))
    for command, stdin, arguments in (("steer", "", [QUESTION]), ("chat", f"{QUESTION}\n", [])):
        result = run(command, *arguments, stdin=stdin)
        assert result.exit_code == 0
        assert result.stdout.count("[red]:smile:[/nothing] [31mred[0m gnp.exe") == 2
        assert not any(unicodedata.category(c) == "Cc" for c in result.stdout if c not in "\n\t")


@given(st.text())
def test_cleaning_leaves_nothing_that_moves_the_cursor_and_keeps_letters(text):
    cleaned = clean(text)
    assert all(c in "\n\t" or unicodedata.category(c) != "Cc" for c in cleaned)
    assert clean(cleaned) == cleaned
    assert [c for c in cleaned if c.isalnum()] == [c for c in text if c.isalnum()]


def test_chat_shows_both_sides_and_follows_alpha(run, monkeypatch):
    asked = []

    def answers(lm, requests, sampling):
        asked.append([(request.alpha, request.seed, len(request.prompt.ids)) for request in requests])
        return [Answer((5,), f"answer {request.alpha}", True) for request in requests]

    monkeypatch.setattr("psr.answers.generation.generate", answers)
    lines = [
        QUESTION,
        "/alpha 0.25",
        "",
        QUESTION,
        "/alpha nan",
        "/alpha much",
        "/beta",
        "sun " * 200,
        "/quit",
        QUESTION,
    ]
    result = run("chat", "--alpha", 1.5, stdin="\n".join(lines) + "\n")
    assert result.exit_code == 0
    length = asked[0][0][2]
    assert asked == [[(0.0, 0, length), (1.5, 0, length)], [(0.0, 1, length), (0.25, 1, length)]]
    for said in ("answer 0.0", "answer 1.5", "answer 0.25", "alpha 0.25 > ", "alpha is not a finite number",
                 "alpha is not a number", "unknown command", "longer than the model's context"):  # fmt: skip
        assert said in result.stdout


def test_chat_remembers_each_sides_own_conversation_only_if_told_to(run, monkeypatch):
    lengths = []

    def answers(lm, requests, sampling):
        lengths.append([len(request.prompt.ids) for request in requests])
        return [Answer((5,), "sun " * (1 + 3 * (request.alpha > 0)), True) for request in requests]

    monkeypatch.setattr("psr.answers.generation.generate", answers)
    run("chat", stdin="Why?\nWhy?\n")
    run("chat", "--remember", stdin="Why?\nWhy?\n")
    (first, again), (third, longer) = lengths[:2], lengths[2:]
    assert first == again == third
    assert first[0] < longer[0] < longer[1]


def test_show_says_what_a_module_is(run, folders, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = run("show", folders[1])
    assert result.exit_code == 0
    lm = family("llama")
    norm = f"{float(module_for(lm).tensors['z'][1].norm()):.4g}"
    for said in (
        "brief-1",
        "PSR",
        "0-2",
        lm.fingerprint,
        "persona/brief",
        "settings.lr",
        "0.001",
        "TA@Cp",
        "97.5",
        norm,
        "-1",
    ):
        assert said in result.stdout


def test_show_of_a_foreign_origin_is_harmless(run, tmp_path):
    save_module(module_for(family("llama"), origin={"note\x1b[2J": "[bold]x[/]"}, layers=(0, 2, 4)), tmp_path)
    result = run("show", tmp_path)
    assert "\x1b" not in result.stdout
    assert "[bold]x[/]" in result.stdout
    assert "0, 2, 4" in result.stdout


def refused(result, says):
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("psr: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_what_cannot_be_done_is_one_line_and_exit_2(run, tmp_path):
    refused(run("show", tmp_path), "not a steering module")
    refused(run("steer", "--module", tmp_path, QUESTION), "not a steering module")
    refused(run("steer", "--model", tmp_path / "none", QUESTION), "model folder is missing")
    refused(run("steer", "--alpha", "nan", QUESTION), "alpha is not a finite number")
    refused(run("steer", "--alpha", "inf", QUESTION), "alpha is not a finite number")
    refused(run("steer", "--temperature", -1, QUESTION), "temperature")
    refused(run("steer", "--max-new-tokens", 1000, QUESTION), "do not fit the model's context")
    refused(run("steer", "--dtype", "int8", QUESTION), "unknown dtype")
    refused(run("steer", " "), "chat is empty")
    refused(run("steer", "sun " * 200), "longer than the model's context")
    foreign = save_module(module_for(family("mistral")), tmp_path / "foreign")
    refused(run("steer", "--module", foreign, QUESTION), "another model")
    damaged = save_module(module_for(family("llama")), tmp_path / "damaged")
    (damaged / "adapter_config.json").write_text(json.dumps({"format": "psr-0"})[:-4])
    refused(run("show", damaged), "damaged")


def test_a_wrong_option_is_explained_without_a_traceback(run):
    result = run("steer", "--strength", 2, QUESTION)
    assert result.exit_code == 2
    assert "--strength" in result.stderr


def test_ctrl_c_ends_with_130_and_no_traceback(run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("psr.answers.generation.generate", interrupt)
    for command, stdin, arguments in (("steer", "", [QUESTION]), ("chat", QUESTION, [])):
        result = run(command, *arguments, stdin=stdin)
        assert result.exit_code == 130
        assert "Traceback" not in result.output


def test_ctrl_c_at_the_chats_prompt_ends_the_process_quietly(folders):
    command = [sys.executable, "-m", "psr.cli", "chat", "--model", str(folders[0]), "--module", str(folders[1])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    chat = subprocess.Popen(command, **pipes, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        assert "/alpha NUMBER" in chat.stdout.readline()
        chat.send_signal(signal.SIGINT)
        _, errors = chat.communicate(timeout=60)
    finally:
        chat.kill()
    assert (chat.returncode, errors.strip()) == (130, "")


def test_help_needs_no_torch():
    code = "import sys, psr.cli; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
    for arguments in ([], ["--help"], ["steer", "--help"], ["chat", "--help"], ["show", "--help"]):
        assert "Usage" in CliRunner().invoke(cli.app, arguments).output


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{thinking", "no JSON object (--template)"),
        ("[1]", "no JSON object (--template)"),
        ('{"enable_thinking": false}', "takes no notice of this option"),
    ],
)
def test_template_options_that_make_no_sense_end_in_one_line(template, says, run):
    refused(run("steer", "--template", template, QUESTION), says)
