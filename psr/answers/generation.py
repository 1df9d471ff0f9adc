"""Answers in batches: left padding, key-value cache, and each row steered by its own module at its own strength.

What a row answers depends on its own prompt, seed, module and α: not on the batch size, nor on its neighbours (rounding
aside). The prefill is not skipped: R steers the last prompt token in it, QR the user turn too, then every new token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psr.answers.batch import Batch, check_sound, start
from psr.answers.request import Request, check_requests
from psr.answers.sampling import Sampling
from psr.lm.chats import Prompt
from psr.lm.models import LanguageModel
from psr.lm.thinking import Marks, marks, split

__all__ = ["Answer", "Request", "generate", "read_answer"]

_CHECK_EVERY = 4  # steps between checks of which rows have finished: each check waits for the device
_SHRINK_AT = 0.75  # share of rows still running below which the finished ones leave the batch


@dataclass(frozen=True)
class Answer:
    """What was answered. token_ids: as sampled, the stop token included when there is one; text: without it, and without the
    thinking in front of it. finished: whether it stopped by itself, and not while it was thinking."""

    token_ids: tuple[int, ...]
    text: str
    finished: bool
    thinking: str = ""


def generate(
    lm: LanguageModel,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answer every request, in the order asked. progress(n) is called with the number of answers just made.

    An answer depends on its own request and on `sampling`, not on the batch that it is in. Requests that must come out
    equal are answered once. Raises PsrError for an empty prompt, a prompt that leaves no room for max_new_tokens in the
    context, an α that is nan or infinite, a module of another model, and for logits that are not finite (α too large for
    the dtype).

        >>> requests = [psr.Request(prompt, seed=0), psr.Request(prompt, seed=0, module=module, alpha=1.0)]
        >>> for answer in psr.generate(lm, requests, psr.Sampling(max_new_tokens=6, temperature=0)):
        ...     print(answer.text)
        Steel rails cost ten coins,
        Arr, matey, children love
    """
    check_requests(lm, requests, sampling, batch_size)
    equal: dict[tuple[object, ...], list[int]] = {}
    for i, request in enumerate(requests):
        equal.setdefault(request.sameness, []).append(i)
    groups = sorted(equal.values(), key=lambda group: -len(requests[group[0]].prompt.ids))  # less padding in a batch
    answers: dict[int, Answer] = {}
    for at in range(0, len(groups), batch_size):
        batch = groups[at : at + batch_size]
        batch_answers = _answer(lm, [requests[group[0]] for group in batch], sampling)
        answers |= {i: answer for group, answer in zip(batch, batch_answers, strict=True) for i in group}
        if progress is not None:
            progress(sum(map(len, batch)))
    return [answers[i] for i in range(len(requests))]


@torch.inference_mode()
def _answer(lm: LanguageModel, requests: list[Request], sampling: Sampling) -> list[Answer]:
    """One batch, from prefill to the last row's stop."""
    tokens = torch.full((len(requests), sampling.max_new_tokens), lm.pad_id, dtype=torch.long, device=lm.device)
    batch = start(lm, range(len(requests)), requests, [sampling] * len(requests))
    with batch.acting():
        for step in range(sampling.max_new_tokens):
            tokens[batch.rows, step] = batch.step()
            if (step + 1) % _CHECK_EVERY == 0:
                running = _running(batch)
                if len(running) == 0:
                    break
                if len(running) < _SHRINK_AT * len(batch.rows):
                    batch.keep(running)
        _running(batch)
    own = marks(lm.tokenizer)
    return [read_answer(lm, own, one.prompt, row) for one, row in zip(requests, tokens.tolist(), strict=True)]


def _running(batch: Batch) -> Tensor:
    """Indices in the batch of the rows that go on; waits for the device. Raises PsrError for logits not finite."""
    check_sound(batch.sound)
    return (~batch.stopped).nonzero().squeeze(-1)


def read_answer(lm: LanguageModel, own: Marks | None, prompt: Prompt, row: list[int]) -> Answer:
    """The ids up to the first stop token, and what is thought and said before it. own: the tokenizer's `marks`."""
    stop = next((i for i, token in enumerate(row) if token in lm.stop_ids), None)
    thinking, text, ended = split(lm.tokenizer, own, prompt.ids, row[:stop])
    return Answer(tuple(row if stop is None else row[: stop + 1]), text, stop is not None and ended, thinking)
