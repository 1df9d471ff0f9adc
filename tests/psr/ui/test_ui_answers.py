"""What the page shows, without a browser: the answers of `psr.generate`, shades that follow α, text that stays text."""

from __future__ import annotations

import io
import math
import re
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
from page_modules import INSTRUCTION, NASTY, QUESTION, folder_with, nasty, of, pirate
from typer.testing import CliRunner

import psr
from psr import cli, cli_ui
from psr.errors import PsrError
from psr.serve.registry import Registry, load_registry
from psr.ui import cards
from psr.ui.answers import Side, ask, python, read, room
from tests.conftest import ROOT

MODEL = str(ROOT / "data/testbed/model")


@pytest.fixture(scope="module")
def toy():
    return psr.load_model(MODEL)


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    return folder_with({"pirate": pirate(toy), "nasty": nasty(toy)}, tmp_path_factory.mktemp("modules"))


@pytest.fixture(scope="module")
def registry(toy, folder):
    return load_registry(toy, folder, "toy")


def last(lm, asked):
    *_, sides = ask(lm, asked)
    return sides


def test_the_sides_are_answered_as_generate_does_and_come_together(toy, registry):
    asked = read(registry, QUESTION, INSTRUCTION, [("pirate", 1.0), ("nasty", 0.5)], seed=3, longest=24)
    pictures = list(ask(toy, asked))
    chats = [asked.plain, asked.instructed, asked.plain, asked.plain]
    steers = [(None, 0.0), (None, 0.0), (asked.steering[0].module, 1.0), (asked.steering[1].module, 0.5)]
    requests = [
        psr.Request(psr.encode_chat(toy.tokenizer, chat), 3, *steer) for chat, steer in zip(chats, steers, strict=True)
    ]
    expected = psr.generate(toy, requests, psr.Sampling(24))
    sides = pictures[-1]
    assert [side.title for side in sides] == ["plain", "prompted", "pirate, α 1", "nasty, α 0.5"]
    assert [(side.token_ids, side.text) for side in sides] == [(one.token_ids, one.text) for one in expected]
    assert sides[0].text not in (sides[1].text, sides[2].text)
    counts = [
        [len(side.token_ids) for side in picture] for picture in pictures if not any(side.end for side in picture)
    ]
    assert all(max(one) - min(one) <= 1 for one in counts)  # one batch: all grow together
    assert len(counts) > 20


def test_tokens_are_shaded_by_the_module_s_own_strengths_and_change_with_alpha(toy, registry):
    weak, strong = (
        last(toy, read(registry, QUESTION, INSTRUCTION, [("pirate", alpha)], longest=24))[-1] for alpha in (0.25, 1.0)
    )
    [steering] = read(registry, QUESTION, "", [("pirate", 1.0)]).steering
    shown = psr.show_answer(toy, steering.module, QUESTION, strong.token_ids, 1.0, instruction=INSTRUCTION)
    assert replace(strong.shown, title=shown.title) == shown
    layers = cards.cards([strong], "0"), cards.cards([strong], "sum")
    assert layers[0] != layers[1]
    assert "layer 0" in layers[0]
    assert cards.cards([weak], "sum") != layers[1]
    assert "the prompt’s own effect" in cards.acted([strong], "sum")
    assert cards.view_of("7", (0, 2)) == cards.view_of("x", (0, 2)) == cards.view_of(None, (0,)) == "sum"


def test_without_an_instruction_there_is_no_prompted_side_and_no_effect_of_it(toy, registry):
    sides = last(toy, read(registry, QUESTION, "  ", [("pirate", 1.0), ("", None)], longest=8))
    assert [side.title for side in sides] == ["plain", "pirate, α 1"]
    assert sides[1].shown.delta is None


def test_a_module_that_undoes_its_instruction_is_asked_with_it(toy, registry):
    undoing = of(registry.modules["pirate"], suppress=True)
    asked = read(Registry("toy", {"un": undoing}), QUESTION, INSTRUCTION, [("un", -0.5)], longest=12)
    side = last(toy, asked)[-1]
    prompt = psr.encode_chat(toy.tokenizer, asked.instructed)
    [expected] = psr.generate(toy, [psr.Request(prompt, 0, undoing, -0.5)], psr.Sampling(12))
    assert side.text == expected.text
    lam = psr.token_strengths(toy, undoing, prompt, side.token_ids, -0.5)
    assert [list(row) for row in side.shown.strengths] == lam.tolist()
    assert len(side.shown.tokens) == lam.shape[1]


def test_the_lines_of_python_say_what_the_page_says(toy, registry, folder):
    for instruction, name, alpha in ((INSTRUCTION, "pirate", 1.0), ("", "nasty", 0.35)):
        asked = read(registry, 'What is "tea"?\n', instruction, [(name, alpha)], seed=2, temperature=0.8, longest=20)
        lines = python(MODEL, str(folder / name), asked, asked.steering[0], room(toy, asked), {"dtype": "float32"})
        assert len(lines.splitlines()) == 5
        out = io.StringIO()
        with redirect_stdout(out):
            exec(lines, {})
        assert out.getvalue() == last(toy, asked)[-1].text + "\n"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"question": " "}, "the question is empty"),
        ({"question": "\ud800"}, "half a character"),
        ({"steer": [("missing", 1.0)]}, "no such module"),
        ({"steer": [("pirate", math.nan)]}, "alpha is not a finite number"),
        ({"steer": [("pirate", None)]}, "alpha is not a finite number"),
        ({"steer": [("pirate", 1e9)]}, "alpha is out of range"),
        ({"seed": None}, "the seed is no whole number"),
        ({"longest": 0}, "no room for an answer"),
        ({"longest": None}, "a field is empty"),
        ({"temperature": -1.0}, "the temperature cannot be used"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(registry, change, line):
    fields = {"question": QUESTION, "instruction": "", "steer": [("pirate", 1.0)], **change}
    with pytest.raises(PsrError, match=line) as refused:
        read(registry, fields.pop("question"), fields.pop("instruction"), fields.pop("steer"), **fields)
    assert "\n" not in str(refused.value)


def test_a_question_that_is_too_long_is_refused_and_answers_end_with_the_context(toy, registry):
    with pytest.raises(PsrError, match="longer than the model's context"):
        last(toy, read(registry, "tea " * 5000, "", [("pirate", 1.0)]))
    asked = read(registry, QUESTION, "", [("pirate", 1.0)], longest=10**6)
    assert room(toy, asked) == toy.context - len(psr.encode_chat(toy.tokenizer, asked.plain).ids)


def test_what_fails_is_said_on_its_own_card(toy, registry):
    sides = last(toy, read(registry, QUESTION, "", [("nasty", 100.0)], longest=4))
    assert [side.end for side in sides] == ["length", "length"]
    broken = Side("steered", (), end="failed", error="no <b>answer")
    assert "no &lt;b&gt;answer" in cards.cards([broken], None)


def test_nobody_s_text_becomes_html(toy, registry):
    asked = read(registry, NASTY, NASTY, [("nasty", 1.0)], longest=8)
    sides = (*last(toy, asked), Side(NASTY, (), text=NASTY, thinking=NASTY, error=NASTY))
    module, refused = registry.modules["nasty"], Registry(NASTY, {}, {NASTY: NASTY})
    everything = "".join(
        (cards.cards(sides, NASTY), cards.acted(sides, "sum"), cards.message(NASTY), cards.module_card(NASTY, module),
         cards.model_words(refused))
    )  # fmt: skip
    assert not re.search(r"<(script|img)", everything)
    assert "&lt;script&gt;" in everything


def test_the_slider_holds_what_was_recommended_tried_and_safe(registry):
    assert cards.strengths(registry.modules["pirate"]) == (0.0, 2.0, 1.0)
    assert cards.strengths(of(registry.modules["nasty"], safe_alpha=[-1, 4], recommended_alpha=3.0)) == (-1.0, 4.5, 3.0)
    assert cards.strengths(of(registry.modules["nasty"], recommended_alpha=1e9)) == (0.0, 100.0, 100.0)
    assert cards.strength_words(registry.modules["pirate"]) == "recommended 1; answers make sense from 0 to 1.5"
    curve, none = (cards.module_card(name, registry.modules[name]) for name in ("pirate", "nasty"))
    assert 'class="band"' in curve
    assert "not measured" in none
    assert cards.instruction_of(registry.modules["pirate"]) == INSTRUCTION


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cli_ui, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["ui", "--model", "missing"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "Install the extra `ui`." in result.stderr
