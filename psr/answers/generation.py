"""Answers in batches: left padding, key-value cache, and each row steered by its own module at its own strength.

What a row answers depends on its own prompt, seed, module and α: not on the batch size, nor on its neighbours (rounding
aside). The prefill is not skipped: R steers the last prompt token in it, QR the user turn too, then every new token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psr.answers.sampling import Sampling, pick, uniforms
from psr.errors import PsrError
from psr.lm.cached import fresh_cache, next_logits
from psr.lm.chats import Prompt
from psr.lm.models import LanguageModel
from psr.lm.padding import check_ids, pad
from psr.lm.thinking import Marks, marks, split
from psr.steering.hooks import Live, Steer, steered
from psr.steering.module import SteeringModule, check_model
from psr.steering.terms import with_alphas

_CHECK_EVERY = 4  # steps between checks of which rows have finished: each check waits for the device
_SHRINK_AT = 0.75  # share of rows still running below which the finished ones leave the batch


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to make. seed: of its random numbers. module: what steers it at strength alpha; None: nothing.

    Several modules steer together, as in `psr.steer`: alpha is then one number for all of them, or one for each.
    """

    prompt: Prompt
    seed: int
    module: SteeringModule | Sequence[SteeringModule] | None = None
    alpha: float | Sequence[float] = 0.0

    @property
    def steers(self) -> tuple[Steer, ...]:
        """What happens to this row; R begins at the last prompt token, QR at the user turn."""
        each = with_alphas(self.module, self.alpha)
        return tuple(Steer(module, alpha, self.prompt.start(module.span)) for module, alpha in each)

    @property
    def sameness(self) -> tuple[object, ...]:
        """Requests with equal `sameness` get the same answer: α = 0 is no steering."""
        active = ((id(one.module), one.alpha, one.start) for one in self.steers if one.active)
        return (self.prompt.ids, self.seed, *active)


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
    with steered(lm.model, [request.steers for request in requests]) as live:
        batch = _start(lm, requests, sampling)
        for step in range(sampling.max_new_tokens):
            _step(lm, batch, step, sampling, tokens)
            if (step + 1) % _CHECK_EVERY == 0:
                running = _running(batch)
                if len(running) == 0:
                    break
                if len(running) < _SHRINK_AT * len(batch.rows):
                    _shrink(batch, running, live)
        _running(batch)
    own = marks(lm.tokenizer)
    return [read_answer(lm, own, one.prompt, row) for one, row in zip(requests, tokens.tolist(), strict=True)]


@dataclass(eq=False)
class _Batch:
    """The rows still running."""

    rows: Tensor  # [running]: their indices in the whole batch
    inputs: Tensor  # [running, token]: the prompts, then the last token alone
    positions: Tensor  # [running, token]
    attention: Tensor  # [running, prompt + max_new_tokens]: covers the whole answer from the start
    u: Tensor  # [running, max_new_tokens]
    stopped: Tensor  # [running] bool
    sound: Tensor  # [running] bool
    cache: Any
    stops: Tensor  # [stop token]
    prompt: int  # columns of the prompt


def _start(lm: LanguageModel, requests: list[Request], sampling: Sampling) -> _Batch:
    """Prompts padded on the left, with positions that count real tokens only."""
    ids, attention = pad([request.prompt.ids for request in requests], lm.pad_id, side="left", device=lm.device)
    rows = torch.arange(len(requests), device=lm.device)
    answer = attention.new_ones(len(requests), sampling.max_new_tokens)
    u = uniforms([request.seed for request in requests], sampling.max_new_tokens).to(lm.device)
    return _Batch(
        rows,
        ids,
        (attention.cumsum(-1) - 1).clamp(min=0),
        torch.cat([attention, answer], dim=1),
        u,
        torch.zeros_like(rows, dtype=torch.bool),
        torch.ones_like(rows, dtype=torch.bool),
        fresh_cache(lm.model),
        torch.tensor(lm.stop_ids, dtype=torch.long, device=lm.device),
        ids.shape[1],
    )


def _step(lm: LanguageModel, batch: _Batch, step: int, sampling: Sampling, tokens: Tensor) -> None:
    """One forward and one token a row, written to `tokens`; tokens after a row's stop token are ignored."""
    logits = next_logits(
        lm.model, batch.inputs, batch.attention[:, : batch.prompt + step], batch.positions, batch.cache
    )
    new, sound = pick(logits, batch.u[:, step], sampling)
    tokens[batch.rows, step] = new
    batch.sound &= sound | batch.stopped
    batch.stopped |= torch.isin(new, batch.stops)
    batch.inputs, batch.positions = new.unsqueeze(-1), batch.positions[:, -1:] + 1


def _running(batch: _Batch) -> Tensor:
    """Indices in the batch of the rows that go on; waits for the device. Raises PsrError for logits not finite."""
    check_sound(batch.sound)
    return (~batch.stopped).nonzero().squeeze(-1)


def check_sound(sound: Tensor) -> None:
    """Raise PsrError unless the logits of every row were finite. sound: [row] bool."""
    if not bool(sound.all()):
        raise PsrError(
            "the model's logits are not finite numbers",
            expected="finite logits",
            got="nan or infinity",
            do="Steer with a smaller alpha, or load the model as float32.",
        )


def _shrink(batch: _Batch, running: Tensor, live: Live) -> None:
    """Go on with the running rows only."""
    for name in ("rows", "inputs", "positions", "attention", "u", "stopped", "sound"):
        setattr(batch, name, getattr(batch, name)[running])
    batch.cache.batch_select_indices(running)
    live.keep(running)


def read_answer(lm: LanguageModel, own: Marks | None, prompt: Prompt, row: list[int]) -> Answer:
    """The ids up to the first stop token, and what is thought and said before it. own: the tokenizer's `marks`."""
    stop = next((i for i, token in enumerate(row) if token in lm.stop_ids), None)
    thinking, text, ended = split(lm.tokenizer, own, prompt.ids, row[:stop])
    return Answer(tuple(row if stop is None else row[: stop + 1]), text, stop is not None and ended, thinking)


def check_requests(lm: LanguageModel, requests: Sequence[Request], sampling: Sampling, batch_size: int) -> None:
    """Raise PsrError for a request that cannot be answered, as `generate` says."""
    if batch_size < 1:
        raise PsrError("a batch holds no row", expected="batch_size of at least 1", got=batch_size)
    modules = {one.module for request in requests for one in request.steers if one.module is not None}
    if modules:
        lm.check_adapters()
    for module in modules:
        check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    for i, request in enumerate(requests):
        length = len(request.prompt.ids)
        if length == 0:
            raise PsrError("an empty prompt cannot be answered", where=f"request {i}", expected="at least one token")
        check_ids(request.prompt.ids, lm.vocabulary, f"request {i}")
        if length + sampling.max_new_tokens > lm.context:
            raise PsrError(
                "prompt and answer do not fit the model's context",
                where=f"request {i}",
                expected=f"at most {lm.context} tokens",
                got=f"{length} of the prompt + {sampling.max_new_tokens} new",
                do="Shorten the question or lower max_new_tokens.",
            )
