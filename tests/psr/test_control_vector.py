"""The constant part of a module as llama.cpp's file, against the same written out by hand: one text at a time, no cache."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import FAMILIES, LAYERS, family
from gguf import GGUFReader
from typer.testing import CliRunner
from written import logits, strong_module

from psr import cli
from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.export import gguf
from psr.export.gguf import control_vector, save_control_vector
from psr.lm.blocks import decoder_blocks, recorded
from psr.lm.chats import encode_chat
from psr.lm.loading import load_model
from psr.steering.hooks import steer
from psr.steering.module import SteeringModule, save_module
from psr.types import Message
from tests.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = ["why is the sun?", "Tell me about the sky.", "what color?"]
NEW, ALPHA = 5, 0.6


@pytest.fixture(params=["R", "QR"])
def module(request, lm):
    return strong_module(lm.fingerprint, request.param)


def texts(lm, module):
    """(ids, first steered column, tokens of the answer) of each question answered by the module."""
    prompts = [encode_chat(lm.tokenizer, (Message("user", one),)) for one in QUESTIONS]
    answers = generate(lm, [Request(prompt, 0, module, ALPHA) for prompt in prompts], Sampling(NEW, 0.0))
    for prompt, answer in zip(prompts, answers, strict=True):
        yield (*prompt.ids, *answer.token_ids), prompt.start(module.span), len(answer.token_ids)


@torch.inference_mode()
def additions(lm, module):
    """What the module adds at each token of its span: layer -> [token, d], from activations that blocks returned."""
    added = {layer: [] for layer in module.layers}
    for ids, start, _ in texts(lm, module):
        with recorded(lm.model, module.layers) as before, steer(lm.model, module, ALPHA, start=start):
            lm.model(input_ids=torch.tensor([ids]))  # recorded outside the context: without what it adds there
        for layer in module.layers:
            p = {name: values[module.layers.index(layer)] for name, values in module.tensors.items()}
            for A in before[layer][0, start:]:
                lam = torch.ones(1)
                if module.form != "Const":
                    lam = torch.relu(p["w"].reshape(-1, lm.d_model) @ A + p["b"].reshape(-1))
                added[layer].append(ALPHA * sum(lam[k] * z for k, z in enumerate(p["z"].reshape(-1, lm.d_model))))
    return {layer: torch.stack(rows) for layer, rows in added.items()}


@torch.inference_mode()
def with_constants(model, ids, constants):
    """Logits [token, vocabulary] where each block's output has its constant added, at every token."""
    blocks = decoder_blocks(model)
    handles = [
        blocks[layer].register_forward_hook(lambda block, args, out, v=v: out + v) for layer, v in constants.items()
    ]
    try:
        return model(input_ids=torch.tensor([ids])).logits[0]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("form", ["PSR", "PSR2", "Const"])
def test_the_directions_are_the_mean_of_what_the_module_adds(lm, form):
    module = strong_module(lm.fingerprint, "QR", form)
    vector = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW)
    added = additions(lm, module)
    assert list(vector.directions) == [1, 2]
    for layer, direction in vector.directions.items():
        torch.testing.assert_close(direction, added[layer].mean(0), rtol=1e-4, atol=1e-4)


def test_the_loss_is_what_the_constants_leave_of_what_is_added_and_all_of_layer_0(lm, module):
    vector = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW)
    squares = torch.zeros(2)
    for layer, rows in additions(lm, module).items():
        left = rows - rows.mean(0) if layer else rows
        lengths = torch.stack([rows.norm(dim=-1), left.norm(dim=-1)]).pow(2).mean(-1)
        squares += lengths
        got = torch.tensor([vector.layers[layer].added, vector.layers[layer].lost])
        torch.testing.assert_close(got, lengths.sqrt(), rtol=1e-4, atol=1e-4)
    assert vector.layers[0].share == 1.0
    assert any(0 < vector.layers[layer].share < 1 for layer in vector.directions)
    assert vector.loss.share == pytest.approx(float((squares[1] / squares[0]).sqrt()), rel=1e-4)


def test_the_file_holds_the_directions_and_adds_what_the_loss_was_measured_with(lm, module, tmp_path):
    vector = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW)
    reader = GGUFReader(save_control_vector(vector, tmp_path / "made" / "v.gguf"))
    fields = {name: reader.get_field(name).contents() for name in reader.fields if not name.startswith("GGUF.")}
    assert fields == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "llama",
        "controlvector.layer_count": 2,
    }
    read = {tensor.name: torch.tensor(tensor.data) for tensor in reader.tensors}
    assert read.keys() == {"direction.1", "direction.2"}
    assert all(torch.equal(read[f"direction.{layer}"], v) for layer, v in vector.directions.items())
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["v.gguf"]
    constants = {int(name.split(".")[1]): v for name, v in read.items()}
    nats, tokens = torch.zeros(2), 0
    for ids, start, n in texts(lm, module):
        p = logits(lm.model, ids, module, range(start, len(ids)), ALPHA)[-n - 1 : -1].log_softmax(-1)
        for i, others in enumerate((constants, {})):
            q = with_constants(lm.model, ids, others)[-n - 1 : -1].log_softmax(-1)
            nats[i] += (p.exp() * (p - q)).sum()
        tokens += n
    assert (vector.answers, vector.tokens) == (3, tokens)
    assert [vector.kl, vector.kl_plain] == pytest.approx((nats / tokens).tolist(), rel=1e-3, abs=1e-5)
    assert min(vector.kl, vector.kl_plain) > 0.01


def test_a_constant_module_loses_nothing_but_its_span_and_layer_0(lm):
    module = strong_module(lm.fingerprint, "R", "Const", (1, 2))
    vector = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW)
    for i, layer in enumerate(module.layers):
        torch.testing.assert_close(vector.directions[layer], ALPHA * module.tensors["z"][i])
    assert vector.loss.share < 1e-6
    assert vector.kl > 0  # llama.cpp adds it in front of the span too


def test_batches_do_not_change_it_and_progress_counts_the_questions(lm, module, monkeypatch):
    answered = []
    one = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW, progress=answered.append)
    monkeypatch.setattr(gguf, "BATCH", 1)
    other = control_vector(lm, module, QUESTIONS, ALPHA, max_new_tokens=NEW)
    assert sum(answered) == 3
    assert all(torch.allclose(v, other.directions[layer], atol=1e-5) for layer, v in one.directions.items())
    assert one.kl == pytest.approx(other.kl, rel=1e-3)


def closed(lm):
    module = strong_module(lm.fingerprint)
    return SteeringModule(
        "closed", "PSR", module.layers, "R", module.model, {**module.tensors, "b": -1e3 * torch.ones(3)}
    )


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (lambda lm: strong_module(lm.fingerprint, form="Proj"), {}, "no constant part"),
        (lambda lm: strong_module(lm.fingerprint, form="LoReFT2"), {}, "no constant part"),
        (lambda lm: strong_module(lm.fingerprint, layers=(0,)), {}, "llama.cpp would add nothing"),
        (lambda lm: strong_module(lm.fingerprint), {"alpha": 0}, "llama.cpp would add nothing"),
        (lambda lm: strong_module(lm.fingerprint), {"alpha": float("nan")}, "alpha is not a finite number"),
        (closed, {}, "adds nothing in the answers"),
        (lambda lm: strong_module("0" * 12 + "-" + "0" * 8), {}, "fitted on another model"),
        (lambda lm: strong_module(lm.fingerprint), {"questions": []}, "no answers to measure"),
    ],
)
def test_what_has_no_constant_part_or_no_answers_is_refused(lm, make, changes, words):
    with pytest.raises(PsrError, match=words) as caught:
        control_vector(lm, make(lm), **{"questions": QUESTIONS, "max_new_tokens": NEW, **changes})
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(lm, tmp_path, monkeypatch):
    vector = control_vector(lm, strong_module(lm.fingerprint), QUESTIONS, max_new_tokens=NEW)
    monkeypatch.setattr(gguf, "find_spec", lambda name: None if name == "gguf" else importlib.util.find_spec(name))
    with pytest.raises(PsrError, match=r"\[gguf\]"):
        save_control_vector(vector, tmp_path / "v.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    lm, place = family("llama"), tmp_path_factory.mktemp("export")
    FAMILIES["llama"]().save_pretrained(place / "model")
    lm.tokenizer.save_pretrained(place / "model")
    save_module(strong_module(lm.fingerprint, "QR"), place / "module")
    (place / "questions.txt").write_text("\n".join(QUESTIONS) + "\n")
    return place


def export(folder, *more):
    arguments = {"--model": "model", "--module": "module", "--questions": "questions.txt", "--out": "v.gguf"}
    options = [part for name, value in arguments.items() for part in (name, str(folder / value))]
    return CliRunner().invoke(cli.app, ["export", *options, "--max-new-tokens", str(NEW), *map(str, more)])


def test_the_command_writes_the_file_and_prints_what_is_lost(folder):
    done = export(folder, "--alpha", ALPHA)
    assert done.exit_code == 0, done.output
    lm = family("llama")
    expected = control_vector(lm, strong_module(lm.fingerprint, "QR"), QUESTIONS, ALPHA, max_new_tokens=NEW)
    read = {tensor.name: torch.tensor(tensor.data) for tensor in GGUFReader(folder / "v.gguf").tensors}
    assert all(torch.allclose(read[f"direction.{layer}"], v) for layer, v in expected.directions.items())
    assert f"{100 * expected.loss.share:.0f} % of what the module adds" in done.stdout
    assert f"{expected.kl:.3g} nats a token" in done.stdout
    assert f"without any steering {expected.kl_plain:.3g}" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.rstrip().endswith(" %")]) == LAYERS


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--format", "onnx"), "unknown format to export to"),
        (("--questions", "/nowhere/questions.txt"), "the file of questions cannot be read"),
        (("--module", "/nowhere/module"), "not a steering module"),
    ],
    ids=str,
)
def test_the_command_refuses_in_one_line(folder, more, words):
    done = export(folder, *more)
    assert (done.exit_code, done.stdout, done.stderr.strip().count("\n")) == (2, "", 0)
    assert words in done.stderr


@pytest.mark.slow
def test_the_page_followed_to_the_letter_works(tmp_path):
    lm = load_model(ROOT / "data" / "testbed" / "model")
    save_module(strong_module(lm.fingerprint, "QR", layers=range(6), d=128), tmp_path / "my-pirate")
    (tmp_path / "data").symlink_to(ROOT / "data")
    variables, said = {**os.environ, "PYTHONPATH": str(ROOT)}, []
    for block in blocks("gguf.md"):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
        elif block.language in ("console", "python"):
            code = block.text.replace("psr ", f"{sys.executable} -m psr.cli ", 1)
            command = ["bash", "-ec", code] if block.language == "console" else [sys.executable, "-c", block.text]
            done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    assert "% of what the module adds" in said[0]
    assert "without steering" in said[1]
    assert {len(GGUFReader(tmp_path / f"{name}.gguf").tensors) for name in ("my-pirate", "my-pirate-too")} == {5}
