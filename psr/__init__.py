"""Prompt Steering Replacement: distil a prompt into a module that steers the model without it.

Heyman & Vandeputte, "Steer Like the LLM: Activation Steering that Mimics Prompting", ICML 2026.

    import psr
    module = psr.load_module("path/to/module")
    with psr.steer(model, module, alpha=1.2, tokenizer=tokenizer):
        model.generate(...)

Names are imported when first used: the pure parts (types, errors, the testbed's grammar and judges) need no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AlignedTokens": "types", "Attribute": "types", "Completion": "types", "Example": "types", "Judgement": "types",
    "Message": "types", "Method": "types", "PromptPair": "types", "Triplet": "types",
    "PsrError": "errors", "JudgeError": "errors",
    "LanguageModel": "lm.models", "wrap": "lm.models", "load_model": "lm.loading", "encode_chat": "lm.chats",
    "align": "lm.alignment", "Targets": "lm.recording", "record": "lm.recording", "recorded": "lm.blocks",
    "SteeringModule": "steering.module", "load_module": "steering.module", "save_module": "steering.module",
    "Steer": "steering.hooks", "hooked": "steering.hooks", "steer": "steering.hooks", "steered": "steering.hooks",
    "token_strengths": "steering.strengths",
    "Adapter": "steering.adapter", "load_adapter": "steering.adapter", "save_adapter": "steering.adapter",
    "Request": "answers.generation", "Sampling": "answers.generation", "generate": "answers.generation",
    "judge_all": "judges.judging",
    "METHODS": "fitting.methods", "parse_method": "fitting.methods", "FitSettings": "fitting.presets",
    "fit": "fitting.loop", "learn": "fitting.learning", "difference_of_means": "fitting.difference",
    "adapted": "fitting.lora",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'psr' has no attribute {name!r}")
    value = getattr(import_module(f"psr.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
