"""The constant part of a module as a control vector for llama.cpp, and what is lost with the rest.

    v_l = α · Σ_k E[λ_k] · z_k        E: over the span's tokens of the module's own answers to the questions given

Of all constants v_l is closest, in mean square, to what the module adds at layer l. Const loses nothing there, since λ ≡ 1;
forms that move towards a target (Proj, LoReFT) have no such part and are refused.

llama.cpp adds v_l to what block l returns, l from 0 as here, at every token: the system turn and the first token too, in
front of any span. It has no vector for block 0 (its direction.1 is block 1's), and that part of a module is lost as well.

    general.architecture = controlvector, controlvector.model_hint, controlvector.layer_count, direction.{l} float32 [d]

The file is the one that repeng and llama.cpp's own generator write. The strength α is in it: load it with scale 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.evaluation.drift import divergence
from psr.fitting.teacher import logits_to_end
from psr.lm.chats import encode_chat
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.steering.forms import CONST, form_named
from psr.steering.hooks import Steer, hooked, steered, terms_of
from psr.steering.module import SteeringModule, check_alpha, check_model
from psr.types import Message

BATCH = 16
LONGEST = 64  # tokens of an answer


@dataclass(frozen=True)
class LayerLoss:
    """added: root mean square length of what the module adds at a token of its span; lost: of what the vector adds otherwise."""

    added: float
    lost: float

    @property
    def share(self) -> float:
        """lost / added, the relative RMSE; 0 where nothing is added."""
        return self.lost / self.added if self.added else 0.0


@dataclass(frozen=True, eq=False)
class ControlVector:
    """One vector a layer, and how far it is from the module. directions[l]: [d] fp32, what is added after block l, α in it.

    model_type: the model's architecture as transformers calls it. layers: the loss in each of the module's layers, layer 0
    with all of it. answers, tokens: what it was measured on. kl: KL(module ‖ vector), nats for each token of those answers,
    the vector added as llama.cpp does, at every token; kl_plain: KL(module ‖ no steering), what there was to lose.
    """

    directions: Mapping[int, Tensor]
    model_type: str
    layers: Mapping[int, LayerLoss]
    answers: int
    tokens: int
    kl: float
    kl_plain: float

    @property
    def loss(self) -> LayerLoss:
        """All layers together: vectors of all layers side by side."""
        every = self.layers.values()
        return LayerLoss(math.hypot(*(one.added for one in every)), math.hypot(*(one.lost for one in every)))


def control_vector(
    lm: LanguageModel,
    module: SteeringModule,
    questions: Sequence[str],
    alpha: float | None = None,
    *,
    max_new_tokens: int = LONGEST,
    progress: Callable[[int], None] | None = None,
) -> ControlVector:
    """The constant part of `module` at strength `alpha` (None: its recommended one), with its loss on `questions`.

    The module answers each question, greedily; λ is averaged, and the loss measured, over these answers. progress(n) is called
    with the number of questions just answered.
    Raises PsrError for a form without a constant part, a module of another model or of layer 0 alone, no question or none
    with an answer, and gates that never open.

        >>> vector = psr.control_vector(lm, module, ["Tell me about trains.", "Tell me about bees."], alpha=1.0)
        >>> sorted(vector.directions), vector.kl < vector.kl_plain
        ([1, 2, 3, 4, 5], True)
    """
    alpha = check_alpha(module.recommended_alpha if alpha is None else alpha)
    check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    _check_constant(module, alpha)
    texts = _answered(lm, module, alpha, questions, max_new_tokens, progress)
    strengths = _strengths(lm, module, alpha, texts)
    directions: dict[int, Tensor] = {}
    layers: dict[int, LayerLoss] = {}
    for i, layer in enumerate(module.layers):
        added = alpha * strengths[layer] @ module.tensors["z"][i].reshape(-1, lm.d_model)
        constant = added.mean(dim=0) if layer > 0 else torch.zeros(lm.d_model)
        layers[layer] = LayerLoss(_rms(added), _rms(added - constant))
        if layer > 0:
            directions[layer] = constant
    if not any(bool(v.any()) for v in directions.values()):
        raise PsrError(
            "the module adds nothing in the answers to these questions",
            where=module.id,
            expected="gates that open, at a layer above 0",
            do="Ask what the module acts on, or give a larger alpha.",
        )
    kl, kl_plain = _divergences(lm, texts, Steer(module, alpha, 0), Steer(_as_module(module, directions), 1.0, 0))
    tokens = sum(one.response for one in texts)
    return ControlVector(directions, _model_type(lm), layers, len(texts), tokens, kl, kl_plain)


def save_control_vector(vector: ControlVector, file: Path | str) -> Path:
    """Write `vector` as the GGUF file that llama.cpp reads (--control-vector). Returns the file.

    It is written aside and then moved. Raises PsrError without the package `gguf`.

        >>> vector = psr.control_vector(lm, module, ["Tell me about trains."], alpha=1.0)
        >>> psr.save_control_vector(vector, "pirate.gguf").name
        'pirate.gguf'
    """
    if find_spec("gguf") is None:
        raise PsrError(
            "writing GGUF needs a package that is not installed",
            got="no gguf",
            do="pip install 'prompt-steering-replacement[gguf]'",
        )
    from gguf import GGUFWriter

    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.part")
    writer = GGUFWriter(aside, "controlvector")
    writer.add_string("controlvector.model_hint", vector.model_type)
    writer.add_uint32("controlvector.layer_count", len(vector.directions))
    for layer, direction in vector.directions.items():
        writer.add_tensor(f"direction.{layer}", direction.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(aside, file)
    return file


@dataclass(frozen=True)
class _Text:
    """A question's tokens with the answer's behind them. start: where the module's span begins."""

    ids: tuple[int, ...]
    start: int
    response: int


def _check_constant(module: SteeringModule, alpha: float) -> None:
    if module.form != CONST.name and not form_named(module.form).gated:
        raise PsrError(
            "this form of module has no constant part",
            where=module.id,
            expected="Const or PSR",
            got=module.form,
            do="It moves activations towards a target, which no vector does.",
        )
    if max(module.layers) == 0 or alpha == 0:
        raise PsrError(
            "llama.cpp would add nothing",
            where=module.id,
            expected="a layer above 0, since block 0 has no vector there, and an alpha other than 0",
            got=f"layers {list(module.layers)}, alpha {alpha:g}",
        )


def _answered(
    lm: LanguageModel,
    module: SteeringModule,
    alpha: float,
    questions: Sequence[str],
    longest: int,
    progress: Callable[[int], None] | None,
) -> list[_Text]:
    prompts = [encode_chat(lm.tokenizer, (Message("user", one),), context=lm.context) for one in questions]
    room = min((lm.context - len(one.ids) for one in prompts), default=longest)
    requests = [Request(prompt, 0, module, alpha) for prompt in prompts]
    answers = generate(lm, requests, Sampling(min(longest, room), 0.0), progress=progress)
    texts = [
        _Text((*prompt.ids, *answer.token_ids), prompt.start(module.span), len(answer.token_ids))
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer.token_ids
    ]
    if not texts:
        raise PsrError(
            "there are no answers to measure the vector on",
            expected="questions that the module answers",
            got=f"{len(questions)} questions, no token",
        )
    return texts


@torch.inference_mode()
def _strengths(lm: LanguageModel, module: SteeringModule, alpha: float, texts: Sequence[_Text]) -> dict[int, Tensor]:
    """λ at every token of the span in all texts, by layer: [token, r] fp32."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in module.layers}
    for batch, ids, attention in _batches(lm, texts):
        real = attention.bool()

        def keep(layer: int, lam: Tensor, mask: Tensor, real: Tensor = real) -> None:
            inside = mask.bool() & real.to(mask.device)
            parts[layer].append(lam.reshape(*lam.shape[:2], -1)[inside].float().cpu())

        terms = terms_of([Steer(module, alpha, one.start) for one in batch], lm.device)
        with hooked(lm.model, terms, torch.tensor([one.start for one in batch], device=lm.device), keep):
            lm.base(input_ids=ids, attention_mask=attention, use_cache=False)
    return {layer: torch.cat(some) for layer, some in parts.items()}


@torch.inference_mode()
def _divergences(lm: LanguageModel, texts: Sequence[_Text], module: Steer, vector: Steer) -> tuple[float, float]:
    """KL(module ‖ vector) and KL(module ‖ plain), nats for each answer token. The module's start is each text's own."""
    nats = torch.zeros(2, dtype=torch.float64)
    for batch, ids, attention in _batches(lm, texts):
        ways = (
            [replace(module, start=one.start) for one in batch],
            [vector] * len(batch),
            [Steer(None, 0.0, 0)] * len(batch),
        )
        p, *others = (_predicted(lm, batch, ids, attention, steers) for steers in ways)
        nats += torch.stack([divergence(p, q).double().sum().cpu() for q in others])
    kl, kl_plain = (nats / sum(one.response for one in texts)).tolist()
    return kl, kl_plain


def _predicted(
    lm: LanguageModel, batch: Sequence[_Text], ids: Tensor, attention: Tensor, steers: Sequence[Steer]
) -> Tensor:
    """Logits of every answer token, [answer token, vocabulary], answer after answer."""
    first = min(len(one.ids) - one.response for one in batch) - 1
    with steered(lm.model, steers):
        logits = logits_to_end(lm, ids, attention, first)
    ends = [len(one.ids) - 1 - first for one in batch]
    return torch.cat([row[end - one.response : end] for row, one, end in zip(logits, batch, ends, strict=True)])


def _batches(lm: LanguageModel, texts: Sequence[_Text]) -> Iterator[tuple[Sequence[_Text], Tensor, Tensor]]:
    """Some of the texts with their ids and attention mask, padded on the right."""
    for at in range(0, len(texts), BATCH):
        batch = texts[at : at + BATCH]
        yield batch, *pad([one.ids for one in batch], lm.pad_id, side="right", device=lm.device)


def _as_module(module: SteeringModule, directions: Mapping[int, Tensor]) -> SteeringModule:
    """What llama.cpp adds, as a module: the same vector at every token."""
    z = torch.stack(list(directions.values()))
    return SteeringModule(f"{module.id}-constant", CONST.name, tuple(directions), "QR", module.model, {"z": z})


def _rms(added: Tensor) -> float:
    """Root mean square length of rows [token, d]."""
    return float(added.double().pow(2).sum(-1).mean().sqrt())


def _model_type(lm: LanguageModel) -> str:
    return str(lm.model.config.get_text_config(decoder=True).model_type)
