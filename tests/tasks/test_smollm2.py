"""A pretrained model, loaded, probed and steered: SmolLM2, from data/models/smollm2 or fetched there. Where it cannot be had, the
tests fail with the line that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import psr
from psr.cli import app
from tasks.asking.models import ModelSettings, open_model
from tasks.doctor.model import check_model
from tasks.models import smollm2

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / smollm2.FOLDER
SETTINGS = ModelSettings(str(FOLDER), "bfloat16", "cpu", 2)
INSTRUCTION = "Answer as a pirate would, in a pirate's words."
ASKED = "How do I make tea?|Why is the sky blue?|What is a good breakfast?|How do plants grow?|What is a bicycle?|Where do fish live?"
QUESTIONS = [*ASKED.split("|"), "Tell me about trains.", "How do birds fly?"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lm() -> psr.LanguageModel:
    command = [sys.executable, "-m", "flows.fetch", "smollm2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr.strip())
    return open_model(SETTINGS)


@pytest.fixture(scope="module")
def module(lm, tmp_path_factory) -> Path:
    """S-Const DiM of eight answers with the instruction, on a layer in the middle."""
    pairs = [psr.PromptPair("own/pirate", question, INSTRUCTION) for question in QUESTIONS]
    requests = [
        psr.Request(psr.encode_chat(lm.tokenizer, chat), seed=0)
        for pair in pairs
        for chat in (pair.plain, pair.instructed)
    ]
    answers = psr.generate(lm, requests, psr.Sampling(max_new_tokens=32, temperature=0))
    examples = [
        psr.Example(psr.align(lm.tokenizer, pair, prompted.token_ids, "R"), rejected=plain.token_ids)
        for pair, plain, prompted in zip(pairs, answers[::2], answers[1::2], strict=True)
    ]
    folder = tmp_path_factory.mktemp("module") / "pirate"
    fitted = psr.learn(lm, examples, psr.parse_method("s-const-dim-r"), [15], module_id="pirate")
    psr.save_module(fitted.module, folder)
    return folder


def test_it_is_the_model_that_every_fetch_makes(lm):
    assert (lm.n_layers, lm.d_model, lm.context, lm.dtype) == (30, 576, 8192, torch.bfloat16)
    assert sum(parameter.numel() for parameter in lm.model.parameters()) == 134_515_008
    assert lm.fingerprint == "6a8b1538d388-4e61d0c7"


def test_it_answers_in_its_own_chat_format(lm):
    chat = (psr.Message("user", "What is the capital of France?"),)
    [answer] = psr.generate(
        lm, [psr.Request(psr.encode_chat(lm.tokenizer, chat), 0)], psr.Sampling(max_new_tokens=24, temperature=0)
    )
    assert "Paris" in answer.text
    assert answer.finished


def test_digits_and_what_stands_before_them_are_cut_as_it_has_learned(lm):
    pieces = lm.tokenizer.tokenize("tips:\n\n1. In 2024")
    assert " ".join(pieces) == "tips : ĊĊ 1 . ĠIn Ġ 2 0 2 4"


def test_it_reads_and_is_steered_with_a_cache_as_without(lm):
    check_model(SETTINGS)


def test_psr_steer_takes_it_with_a_module_fitted_on_it(module):
    def said(alpha: str) -> tuple[str, str]:
        args = ["steer", "--model", str(FOLDER), "--module", str(module), "--alpha", alpha, "--dtype", "bfloat16",
                "--max-new-tokens", "24", "--temperature", "0", "Tell me about the sea."]  # fmt: skip
        result = CliRunner().invoke(app, args)
        assert result.exit_code == 0, result.output
        plain, steered = result.stdout.split("steered by pirate")
        return plain.partition("\n")[2].strip(), steered.partition("\n")[2].strip()

    plain, steered = said("2")
    assert plain
    assert steered
    assert plain != steered
    plain, steered = said("0")
    assert plain == steered
