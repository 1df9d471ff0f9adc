"""The speed of steered generation: against the plain model and against prompting, all answers equally long."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import ratio

if TYPE_CHECKING:
    from psr.answers.generation import Request
    from psr.lm.models import LanguageModel
    from tasks.studies.bench.material import Material

ROWS, NEW_TOKENS = 64, 48
WIDE_ROWS, WIDE_NEW_TOKENS = 32, 12
WIDE = {"cpu": (1024, 8, "float32"), "cuda": (4096, 32, "bfloat16")}  # width, layers, dtype; the second as a 7B model


def steered_generation(material: Material) -> list[Figure]:
    """A-PSR on all layers of the profile's model, against the same prompts unsteered, and against the instructed ones."""
    lm, module = endless(material.lm), material.module()
    plain = requests(material, ROWS, instructed=False)
    told, steer = (
        requests(material, ROWS, instructed=True),
        [replace(request, module=module, alpha=1.0) for request in plain],
    )
    steered, unsteered, prompted = material.seconds(
        [partial(_generate, lm, some, NEW_TOKENS) for some in (steer, plain, told)]
    )
    short, long = (sum(len(request.prompt.ids) for request in some) / ROWS for some in (plain, told))
    made, size = ROWS * NEW_TOKENS, f"batch {ROWS}, {NEW_TOKENS} new tokens a row"
    extra = f"the prompt adds {long - short:.1f} tokens to the {short:.1f} of a request"
    what = "generating with A-PSR on all layers: new tokens/s"
    return [
        Figure(
            "generate",
            what,
            "generating unsteered: new tokens/s",
            ratio(unsteered, steered),
            Goal(0.90),
            f"{_rate(made, steered)} against {_rate(made, unsteered)} tokens/s, {size}",
        ),
        Figure(
            "generate-prompt",
            what,
            "generating from the instructed chat: new tokens/s",
            ratio(prompted, steered),
            None,
            f"{_rate(made, steered)} against {_rate(made, prompted)} tokens/s, {size}; {extra}",
        ),
    ]


def wide_generation(material: Material) -> list[Figure]:
    """The same on a random model as wide as those that are used in earnest, built here from its config."""
    from psr.testbed.wide import random_model, random_module

    wide = random_model(material.lm, *WIDE.get(material.lm.device.type, WIDE["cpu"]))
    lm, module = endless(wide), random_module(wide)
    plain = requests(material, WIDE_ROWS, instructed=False)
    asked = [[replace(request, module=module, alpha=1.0) for request in plain], plain]
    steered, unsteered = material.seconds([partial(_generate, lm, some, WIDE_NEW_TOKENS) for some in asked])
    made = WIDE_ROWS * WIDE_NEW_TOKENS
    note = f"{_rate(made, steered)} against {_rate(made, unsteered)} tokens/s, batch {WIDE_ROWS}, {WIDE_NEW_TOKENS} new tokens a row"
    return [
        Figure(
            "generate-wide",
            f"A-PSR on a random Llama, {wide.d_model} wide, {wide.n_layers} layers: new tokens/s",
            "the same model unsteered: new tokens/s",
            ratio(unsteered, steered),
            Goal(0.97),
            note,
        )
    ]


def endless(lm: LanguageModel) -> LanguageModel:
    """The same model with no token that ends an answer, so that all answers are equally long."""
    same = replace(lm)
    same.__dict__["stop_ids"] = ()  # where its cached property would put them
    return same


def requests(material: Material, rows: int, *, instructed: bool) -> list[Request]:
    """`rows` different requests from the attribute's triplets, plain or instructed."""
    from psr.answers.generation import Request
    from psr.lm.chats import encode_chat

    pairs = [triplet.pair for triplet in material.triplets[material.attribute]]
    chats = [pair.instructed if instructed else pair.plain for pair in pairs]
    prompts = [encode_chat(material.lm.tokenizer, chat) for chat in chats[:rows]]
    return [Request(prompts[i % len(prompts)], seed=i) for i in range(rows)]


def _generate(lm: LanguageModel, asked: list[Request], new_tokens: int) -> None:
    from psr.answers.generation import generate
    from psr.answers.sampling import Sampling

    generate(lm, asked, Sampling(new_tokens), batch_size=len(asked))


def _rate(made: int, seconds: list[float]) -> str:
    return f"{made / median(seconds):.0f}"
