"""Prompt Steering Replacement: distil a prompt into a module that steers the model without it.

Heyman & Vandeputte, "Steer Like the LLM: Activation Steering that Mimics Prompting", ICML 2026.

    import psr

    lm = psr.load_model("data/testbed/model")
    pair = psr.PromptPair("persona/pirate", "Tell me about trains.", "Talk like a pirate.")
    prompt, instructed = (psr.encode_chat(lm.tokenizer, chat) for chat in (pair.plain, pair.instructed))
    greedy = psr.Sampling(max_new_tokens=64, temperature=0)
    plain, pirate = psr.generate(lm, [psr.Request(prompt, seed=0), psr.Request(instructed, seed=0)], greedy)

    tokens = psr.align(lm.tokenizer, pair, pirate.token_ids, "QR")
    method, settings = psr.parse_method("a-psr-mse-qr"), psr.FitSettings(epochs=40)
    module = psr.learn(lm, [psr.Example(tokens)], method, range(lm.n_layers), settings, module_id="pirate").module
    [steered] = psr.generate(lm, [psr.Request(prompt, seed=0, module=module, alpha=1.0)], greedy)
    assert steered.text == pirate.text  # "Arr, matey, children love trains for the steady noise. …", without the prompt

`__all__` holds all that is public; anything else in this package may change with any release. The examples in the
docstrings of these names go on from the lines above. A name is imported when it is first used: `import psr` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psr.answers.generation import Answer, generate
    from psr.answers.request import Request
    from psr.answers.sampling import Sampling
    from psr.artefact.card import write_card
    from psr.artefact.facts import CardData, CardFacts, CardFigure, distilled_facts
    from psr.artefact.hub import Pushed, push_module
    from psr.errors import JudgeError, PsrError
    from psr.evaluation.shown import show_answer
    from psr.export.gguf import ControlVector, control_vector, save_control_vector
    from psr.export.transformer_lens import lens_hooks
    from psr.fitting.learning import learn
    from psr.fitting.loop import Fitted, fit
    from psr.fitting.methods import parse_method
    from psr.fitting.methods.named import preset
    from psr.fitting.presets import FitSettings
    from psr.from_prompt.distilling import distill
    from psr.from_prompt.result import Distilled
    from psr.judges.judging import judge_all
    from psr.lm.alignment import align, align_plain
    from psr.lm.chats import Prompt, encode_chat
    from psr.lm.loading import load_model
    from psr.lm.models import LanguageModel, wrap
    from psr.lm.recording import Targets, record
    from psr.show.answer import ShownAnswer
    from psr.steering.hooks import steer
    from psr.steering.module import SteeringModule, load_module, save_module
    from psr.steering.strengths import token_strengths
    from psr.types import (
        AlignedTokens,
        Attribute,
        Example,
        JudgeItem,
        Judgement,
        Message,
        Method,
        ModelName,
        PromptPair,
        Usage,
        Verdicts,
    )

__all__ = [
    "AlignedTokens", "Answer", "Attribute", "CardData", "CardFacts", "CardFigure", "ControlVector", "Distilled", "Example",
    "FitSettings", "Fitted", "JudgeError", "JudgeItem", "Judgement", "LanguageModel", "Message", "Method", "ModelName",
    "Prompt", "PromptPair", "PsrError", "Pushed", "Request", "Sampling", "ShownAnswer", "SteeringModule", "Targets", "Usage",
    "Verdicts", "align", "align_plain", "control_vector", "distill", "distilled_facts", "encode_chat", "fit", "generate",
    "judge_all", "learn", "lens_hooks", "load_model", "load_module", "parse_method", "preset", "push_module", "record",
    "save_control_vector", "save_module", "show_answer", "steer", "token_strengths", "wrap", "write_card",
]  # fmt: skip

_NAMES = {  # as above, for when the program runs: file -> what is imported from it
    "types": "AlignedTokens Attribute Example JudgeItem Judgement Message Method ModelName PromptPair Usage Verdicts",
    "errors": "JudgeError PsrError",
    "lm.loading": "load_model",
    "lm.models": "LanguageModel wrap",
    "lm.chats": "Prompt encode_chat",
    "lm.alignment": "align align_plain",
    "lm.recording": "Targets record",
    "steering.module": "SteeringModule load_module save_module",
    "steering.hooks": "steer",
    "steering.strengths": "token_strengths",
    "evaluation.shown": "show_answer",
    "show.answer": "ShownAnswer",
    "answers.sampling": "Sampling",
    "answers.request": "Request",
    "answers.generation": "Answer generate",
    "judges.judging": "judge_all",
    "fitting.methods": "parse_method",
    "fitting.methods.named": "preset",
    "fitting.presets": "FitSettings",
    "fitting.loop": "Fitted fit",
    "fitting.learning": "learn",
    "from_prompt.distilling": "distill",
    "from_prompt.result": "Distilled",
    "export.transformer_lens": "lens_hooks",
    "export.gguf": "ControlVector control_vector save_control_vector",
    "artefact.facts": "CardData CardFacts CardFigure distilled_facts",
    "artefact.card": "write_card",
    "artefact.hub": "Pushed push_module",
}
_HOME = {name: f"psr.{home}" for home, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # with a __getattr__ in sight, type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'psr' has no attribute {name!r}")
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return __all__
