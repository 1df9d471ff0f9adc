"""`psr distill`: what it saves and prints, of a result made by hand, and what it keeps when there is none."""

import json
from pathlib import Path

import pytest
import torch
from families import family
from typer.testing import CliRunner

import psr
from psr import cli, cli_distill
from psr.errors import PsrError
from psr.evaluation.bootstrap import Interval
from psr.from_prompt.result import Computed, Distilled, Measured, Said
from psr.from_prompt.strength import CurvePoint
from psr.types import Completion, Judgement


def result_for(lm):
    z = torch.randn(2, lm.d_model, generator=torch.Generator().manual_seed(0))
    module = psr.SteeringModule("m", "Const", (0, 1), "R", lm.fingerprint, {"z": z}, {"recommended_alpha": 1.25})
    interval = Interval(90.0, 80.0, 99.0)
    return Distilled(
        module, 1.25, (1.0, 1.5), (0.0, 2.0), False, (CurvePoint(0.0, 1.0, 98.0), CurvePoint(1.0, 71.5, 96.0)),
        Measured(Interval(0, -3, 3), interval), Measured(Interval(100, 95, 105), interval), Measured(Interval(88, 70, 96), interval),
        (Said("Why?", "It is.", "Arr.", "[red]Arr\x1b[2J"),), 97.5, 14, {"coherence below 0.5": 2}, "likelihood", ("w",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    lm, folder = family("llama"), tmp_path_factory.mktemp("model")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """Run `psr distill` with `distill` replaced: run(replacement, *arguments) -> result, folder."""
    monkeypatch.setenv("COLUMNS", "100")

    def ran(distill, *arguments):
        monkeypatch.setattr(cli_distill, "distill", distill)
        out = tmp_path / "out"
        options = ["distill", "--model", str(model), "--instruction", "Talk like a pirate.", "--out", str(out)]
        return CliRunner().invoke(cli.app, [*options, *map(str, arguments)]), out

    return ran


def test_it_passes_on_what_it_is_told_and_saves_the_module_and_answers(run, tmp_path):
    seen = {}

    def distill(lm, instruction, *, progress, **options):
        seen.update(options, instruction=instruction)
        progress("fitting", 3, 4)
        progress("fitting", 1, 4)
        return result_for(lm)

    questions = tmp_path / "q.txt"
    questions.write_text("Why?\nHow?\n\n")
    arguments = (
        "--questions",
        questions,
        "--paraphrase",
        "Be a pirate.",
        "--suppress",
        "--seed",
        3,
        "--max-new-tokens",
        9,
    )
    done, out = run(distill, *arguments)
    assert done.exit_code == 0, done.stderr
    assert seen == {
        "instruction": "Talk like a pirate.", "questions": ["Why?", "How?"], "paraphrases": ["Be a pirate."], "suppress": True,
        "seed": 3, "sampling": psr.Sampling(9, 0.7), "method": "a-psr-mse-qr", "force": False,
    }  # fmt: skip
    assert psr.load_module(out).recommended_alpha == 1.25
    card = (out / "README.md").read_text()
    assert "| this module | effect | 88 (70 to 96) | 1 | 1.25 | `likelihood` |" in card
    assert [json.loads(line)["steered"] for line in (out / "answers.jsonl").read_text().splitlines()] == [
        "[red]Arr\x1b[2J"
    ]
    for text in ("98 of 100 by judge likelihood", "14 kept, dropped: 2 coherence below 0.5", "1.25 (1 to 1.5), safe from 0 to 2",
                 "88 (70 to 96)", "72", "steered at 1.25", "less effect than the prompt"):  # fmt: skip
        assert text in done.stdout, text
    assert "4/4" in done.stderr


def test_what_was_computed_before_an_error_is_saved_and_the_line_says_where(run):
    pair = psr.PromptPair("x", "Why?", "Arr.")
    answer = Completion(pair.id, "plain", 0.0, 0, "m", "s", (1,), "It is.", True)

    def distill(lm, instruction, **options):
        error = PsrError("the model does not follow this instruction", got="3", do="Force it.")
        verdict = Judgement(answer.id, "likelihood", "1", "trait", 4.5, 100.0)
        error.computed = Computed({pair.id: pair}, (answer,), (verdict,), None)
        raise error

    done, out = run(distill)
    assert (done.exit_code, done.stdout) == (2, "")
    [line] = [line for line in done.stderr.splitlines() if line.startswith("psr: ")]
    assert line.startswith("psr: the model does not follow this instruction, got 3. Force it. The answers are in ")
    [row] = map(json.loads, (out / "answers.jsonl").read_text().splitlines())
    assert row == {"question": "Why?", "method": "plain", "alpha": 0.0, "text": "It is.", "trait": 4.5}
    assert {file.name for file in Path(out).iterdir()} == {"answers.jsonl"}


def test_a_file_of_questions_that_is_not_there_is_one_line(run, tmp_path):
    done, out = run(None, "--questions", tmp_path / "none.txt")
    assert (done.exit_code, out.exists()) == (2, False)
    assert "psr: the file of questions cannot be read" in done.stderr


def test_steering_without_a_strength_takes_the_modules(model, tmp_path):
    psr.save_module(result_for(family("llama")).module, tmp_path / "m")
    options = ["--model", str(model), "--module", str(tmp_path / "m"), "--max-new-tokens", "4", "Why?"]
    done = CliRunner().invoke(cli.app, ["steer", *options])
    assert "steered by m, alpha 1.25" in done.stdout
    same = CliRunner().invoke(cli.app, ["steer", "--alpha", "1.25", *options])
    assert done.stdout == same.stdout
