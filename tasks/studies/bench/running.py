"""The speed of steered generation with answers of equal length, and of recording activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.fitting.methods import parse_method
from psr.lm.chats import encode_chat
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.lm.recording import record
from psr.steering.module import SteeringModule
from psr.testbed.wide import random_model, random_module
from tasks.studies.bench.material import Material
from tasks.studies.bench.pairs import Figure, Run, ratio

ROWS, NEW_TOKENS = 64, 48
WIDE_ROWS, WIDE_NEW_TOKENS = 32, 12
WIDE = {"cpu": (1024, 8, "float32"), "cuda": (4096, 32, "bfloat16")}  # width, layers, dtype; the second as a 7B model
TRIPLETS, BATCH = 64, 32  # of recording


def steered_generation(material: Material) -> Iterator[Figure]:
    """A-PSR on all layers of the profile's model, against the same prompts unsteered, and against the instructed ones."""
    lm, module = endless(material.lm), material.module()
    plain, instructed = (requests(material, ROWS, instructed=instructed) for instructed in (False, True))
    runs = [
        _generating(lm, batch, NEW_TOKENS, by) for batch, by in ((plain, module), (plain, None), (instructed, None))
    ]
    steered, unsteered, prompted = material.seconds(runs)
    rate, plain_rate, prompt_rate = (_rate(ROWS, NEW_TOKENS, times) for times in (steered, unsteered, prompted))
    short, long = (sum(len(request.prompt.ids) for request in batch) / ROWS for batch in (plain, instructed))
    what, size = "generating with A-PSR on all layers: new tokens/s", f"batch {ROWS}, {NEW_TOKENS} new tokens a row"
    yield Figure(
        "generate",
        what,
        "generating unsteered: new tokens/s",
        ratio(unsteered, steered),
        f"{rate} against {plain_rate} tokens/s, {size}",
        at_least=0.97 if material.large else 0.90,
    )
    yield Figure(
        "generate-prompt",
        what,
        "generating from the instructed chat: new tokens/s",
        ratio(prompted, steered),
        f"{rate} against {prompt_rate} tokens/s, {size}; "
        f"the prompt adds {long - short:.1f} tokens to the {short:.1f} of a request",
    )


def wide_generation(material: Material) -> Iterator[Figure]:
    """The same on a random model of realistic width, built from a config."""
    wide = random_model(material.lm, *WIDE.get(material.lm.device.type, WIDE["cpu"]))
    lm, plain = endless(wide), requests(material, WIDE_ROWS, instructed=False)
    runs = [_generating(lm, plain, WIDE_NEW_TOKENS, module) for module in (random_module(wide), None)]
    steered, unsteered = material.seconds(runs)
    rate, plain_rate = (_rate(WIDE_ROWS, WIDE_NEW_TOKENS, times) for times in (steered, unsteered))
    yield Figure(
        "generate-wide",
        f"A-PSR on a random Llama, {wide.d_model} wide, {wide.n_layers} layers: new tokens/s",
        "the same model unsteered: new tokens/s",
        ratio(unsteered, steered),
        f"{rate} against {plain_rate} tokens/s, batch {WIDE_ROWS}, {WIDE_NEW_TOKENS} new tokens a row",
        at_least=0.97,
    )


def endless(lm: LanguageModel) -> LanguageModel:
    """The same model without stop tokens, so that all answers are equally long."""
    same = replace(lm)
    same.__dict__["stop_ids"] = ()  # replaces its cached property
    return same


def requests(material: Material, rows: int, *, instructed: bool) -> list[Request]:
    """`rows` different requests from the attribute's triplets, plain or instructed."""
    pairs = [triplet.pair for triplet in material.triplets[material.attribute]][:rows]
    prompts = [encode_chat(material.lm.tokenizer, pair.instructed if instructed else pair.plain) for pair in pairs]
    return [Request(prompts[i % len(prompts)], seed=i) for i in range(rows)]


def _generating(
    lm: LanguageModel, batch: Sequence[Request], new_tokens: int, module: SteeringModule | None = None
) -> Run:
    steered = [replace(request, module=module, alpha=1.0) for request in batch] if module else batch
    return partial(generate, lm, steered, Sampling(new_tokens), batch_size=len(batch))


def _rate(rows: int, new_tokens: int, seconds: Sequence[float]) -> str:
    return f"{rows * new_tokens / median(seconds):.0f}"


def recording(material: Material) -> Iterator[Figure]:
    """Recording the triplets' instructed runs over QR in memory, against the same batches run without recording."""
    lm, examples = material.lm, material.examples(parse_method("a-psr-mse-qr"), TRIPLETS)
    ids, starts = zip(*((e.tokens.instructed_ids, e.tokens.instructed_start) for e in examples), strict=True)
    ordered = sorted(ids, key=len)  # batches by length, as `record` makes them
    parts = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
    batches = [pad(part, lm.pad_id, side="right", device=lm.device) for part in parts]

    @torch.inference_mode()
    def forwards() -> None:
        for rows, attention in batches:
            lm.base(input_ids=rows, attention_mask=attention, use_cache=False)

    kept = partial(record, lm, ids, starts, range(lm.n_layers), span="QR", batch_size=BATCH)
    recorded, alone = material.seconds([kept, forwards])
    rate = sum(map(len, ids)) / median(recorded)
    yield Figure(
        "record",
        "recording all layers: tokens/s",
        "the same batches, a plain forward without head: tokens/s",
        ratio(alone, recorded),
        f"{rate:.0f} tokens/s, {lm.n_layers} layers of {lm.d_model}, batch {BATCH}",
        at_least=0.9,
    )
