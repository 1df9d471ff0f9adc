"""Trains the testbed's language model from scratch: a Llama of 1.3 million parameters on text of the grammar.

Loss on the answer only, end of turn included: minimise −log p(answer | conversation). AdamW, linear warm-up, then cosine to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from psr.testbed.grammar import Sample, sample
from psr.testbed.tokenizer import CONTEXT, TURNS

IGNORED = -100  # label of a token without a loss
POOL = 16  # batches drawn at once and sorted by length, for less padding


@dataclass(frozen=True)
class TrainSettings:
    """How the model is trained. steps: of `batch_size` conversations each, all newly drawn."""

    steps: int
    batch_size: int = 64
    lr: float = 3e-3
    warmup: int = 60
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """ids, labels: [row, token] long, padded on the right; labels are the next tokens, IGNORED outside the answer."""

    ids: Tensor
    labels: Tensor


def fresh_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of hidden size 128 with 6 layers, randomly initialised from `seed`."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=128,
    )
    return model


def conversation(item: Sample, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """(prompt, answer) as the chat template renders them, but without it: rendering 100,000 chats is slow."""
    end = tokenizer.eos_token
    system = f"{TURNS['system']}{item.system}{end}" if item.system else ""
    return f"{tokenizer.bos_token}{system}{TURNS['user']}{item.user}{end}{TURNS['assistant']}", f"{item.answer}{end}"


def batches(tokenizer: PreTrainedTokenizerFast, settings: TrainSettings) -> Iterator[Batch]:
    """Endless batches of fresh conversations; within a pool, rows of similar length share a batch."""
    rng = Random(settings.seed)  # noqa: S311 - no secret
    size = settings.batch_size
    while True:
        pairs = [conversation(sample(rng), tokenizer) for _ in range(POOL * size)]
        prompts, answers = (
            tokenizer(list(side), add_special_tokens=False)["input_ids"] for side in zip(*pairs, strict=True)
        )
        rows = sorted(zip(prompts, answers, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        for start in starts:
            yield _batch(rows[start : start + size], tokenizer.pad_token_id)


def _batch(rows: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    width = max(len(prompt) + len(answer) for prompt, answer in rows) - 1
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, answer) in enumerate(rows):
        sequence = prompt + answer
        ids[i, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        labels[i, len(prompt) - 1 : len(sequence) - 1] = torch.tensor(answer)
    return Batch(ids, labels)


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean of −log p(token) over the answers' tokens. Padding is on the right, so the causal mask suffices."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    wanted = batch.labels != IGNORED
    return cross_entropy(model.lm_head(hidden[wanted]), batch.labels[wanted])


def rate(step: int, settings: TrainSettings) -> float:
    """The factor of the learning rate: linear warm-up, then a half cosine to 0."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def train(
    tokenizer: PreTrainedTokenizerFast,
    settings: TrainSettings,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> LlamaForCausalLM:
    """The trained model, in evaluation mode. progress(steps done, loss of the step) is called after every step."""
    model = fresh_model(tokenizer, settings.seed)
    model.train()
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, settings))
    for step, batch in zip(range(settings.steps), batches(tokenizer, settings), strict=False):
        loss = answer_loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()
        schedule.step()
        if progress:
            progress(step + 1, loss.item())
    return model.eval().requires_grad_(False)
