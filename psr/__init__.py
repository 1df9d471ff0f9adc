"""Prompt Steering Replacement: distil a prompt into a module that steers the model without it.

Heyman & Vandeputte, "Steer Like the LLM: Activation Steering that Mimics Prompting", ICML 2026.

    import psr
    module = psr.load_module("path/to/module")
    with psr.steer(model, module, alpha=1.2, tokenizer=tokenizer):
        model.generate(...)

Names are imported when first used: the pure parts (types, errors, the testbed's grammar and judges) need no torch.
A function that shares its file's name is imported from there: `from psr.align import align`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AlignedTokens": "types", "Attribute": "types", "Completion": "types", "Example": "types", "Judgement": "types",
    "Message": "types", "Method": "types", "PromptPair": "types", "Triplet": "types",
    "PsrError": "errors", "JudgeError": "errors",
    "METHODS": "methods", "parse_method": "methods",
    "SteeringModule": "module", "load_module": "module", "save_module": "module",
    "LanguageModel": "models", "load_model": "loading", "wrap": "models",
    "encode_chat": "chats",
    "Targets": "recording", "record": "recording", "recorded": "recording",
    "Steer": "steering", "hooked": "steering", "steer": "steering", "steered": "steering",
    "Request": "generation", "Sampling": "generation", "generate": "generation",
    "token_strengths": "strengths",
    "FitSettings": "presets", "fit": "fitting", "difference_of_means": "difference",
    "Adapter": "adapter", "adapted": "adapt", "load_adapter": "adapter", "save_adapter": "adapter",
    "judge_all": "judging",
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
