"""Modules of the toy model for the page: one fitted to speak like a pirate, and a random one with nasty texts."""

from __future__ import annotations

from pathlib import Path

import torch

import psr
from psr.lm.models import LanguageModel
from psr.steering.module import SteeringModule, save_module

NASTY = '<img src=x onerror="window.hit=1"><script>window.hit=1</script> ${window.hit=1} {{hit}} " \' &'
INSTRUCTION = "Talk like a pirate."
QUESTION = "Tell me about trains."
CURVE = [[0.0, 0.0, 97.0], [0.5, 42.0, 97.0], [1.0, 96.0, 95.0], [1.5, 97.0, 84.0], [2.0, 90.0, 41.0]]


def pirate(lm: LanguageModel) -> SteeringModule:
    """What psr's docstring fits: on one example, so that it speaks like a pirate of trains."""
    pair = psr.PromptPair("persona/pirate", QUESTION, INSTRUCTION)
    instructed = psr.encode_chat(lm.tokenizer, pair.instructed)
    [answer] = psr.generate(lm, [psr.Request(instructed, seed=0)], psr.Sampling(max_new_tokens=64, temperature=0))
    example = psr.Example(psr.align(lm.tokenizer, pair, answer.token_ids, "QR"))
    fitted = psr.learn(lm, [example], psr.parse_method("a-psr-mse-qr"), range(lm.n_layers), psr.FitSettings(epochs=40),
                       module_id="pirate").module  # fmt: skip
    return of(fitted, instruction=INSTRUCTION, recommended_alpha=1.0, safe_alpha=[0.0, 1.5], curve=CURVE)


def nasty(lm: LanguageModel) -> SteeringModule:
    """A constant module on two layers, whose texts are HTML."""
    z = torch.randn(2, lm.d_model, generator=torch.Generator().manual_seed(1))
    return SteeringModule(NASTY, "Const", (0, 2), "R", lm.fingerprint, {"z": z}, {"instruction": NASTY, "curve": NASTY})


def of(module: SteeringModule, **origin: object) -> SteeringModule:
    return SteeringModule(
        module.id, module.form, module.layers, module.span, module.model, module.tensors, {**module.origin, **origin}
    )


def folder_with(modules: dict[str, SteeringModule], folder: Path) -> Path:
    for name, module in modules.items():
        save_module(module, folder / name)
    return folder
