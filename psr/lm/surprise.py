"""How surprised a frozen model is by given answers: −log p(y_i | prompt, y_<i), token by token.

Answers often share a prompt. Each distinct prompt is run once with a key-value cache, padded on the left; every answer then
goes on from a copy of its prompt's rows, padded on the right. The language-model head runs over what is asked for only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from psr.errors import PsrError
from psr.lm.cached import fresh_cache, last_logits
from psr.lm.padding import check_ids, pad

if TYPE_CHECKING:
    from transformers import DynamicCache

    from psr.lm.models import LanguageModel

BATCH = 32
_HEAD_AT_ONCE = 1 << 24  # logits turned to fp32 in one piece: small enough for a processor's cache to be of use
_COPIED = (
    DynamicLayer,
    DynamicSlidingWindowLayer,
)  # what a row of these layers holds is its own tokens' keys and values
_Ids = tuple[int, ...]


@torch.inference_mode()
def token_losses(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    batch_size: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """−log p in nats of each token of answers[i] behind prompts[i], a tensor [token] fp32 on the CPU for each.

    The values of an answer do not depend on the others, rounding aside. progress(n) is called with the answers just read.
    Raises PsrError for an empty prompt or answer, for a token that the model does not know, and for a prompt and answer
    that do not fit the context.
    """
    pairs = [(tuple(prompt), tuple(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
    for i, (prompt, answer) in enumerate(pairs):
        _check(lm, prompt, answer, f"answer {i}")
    shares = all(type(layer) in _COPIED for layer in fresh_cache(lm.model).layers)
    losses: dict[int, Tensor] = {}
    for rows, of_rows in (_shared if shares else _whole)(lm, pairs, batch_size):
        losses |= dict(zip(rows, of_rows, strict=True))
        if progress is not None:
            progress(len(rows))
    return [losses[i] for i in range(len(pairs))]


def _shared(
    lm: LanguageModel, pairs: list[tuple[_Ids, _Ids]], batch_size: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Batches of rows with the losses of each, each distinct prompt run once."""
    answers_to: dict[_Ids, list[int]] = {}
    for i, (prompt, _) in enumerate(pairs):
        answers_to.setdefault(prompt, []).append(i)
    ordered = sorted(answers_to, key=len)  # less padding in a batch
    for begin in range(0, len(ordered), batch_size):
        prompts = ordered[begin : begin + batch_size]
        of_prompt = {prompt: row for row, prompt in enumerate(prompts)}
        ids, attention = pad(prompts, lm.pad_id, side="left", device=lm.device)
        cache = fresh_cache(lm.model)
        first = last_logits(lm.model, ids, attention, _positions(attention), cache)
        asked = sorted((i for prompt in prompts for i in answers_to[prompt]), key=lambda i: len(pairs[i][1]))
        for at in range(0, len(asked), batch_size):
            rows = asked[at : at + batch_size]
            answers = [pairs[i][1] for i in rows]
            of_rows = torch.tensor([of_prompt[pairs[i][0]] for i in rows])
            said, real = pad(answers, lm.pad_id, side="right", device=lm.device)
            losses = [_of_logits(first[of_rows], said[:, :1])]
            if said.shape[1] > 1:
                whole = torch.cat([attention[of_rows], real[:, :-1]], dim=1)
                positions, kept = _positions(whole)[:, ids.shape[1] :], said.shape[1] - 1
                logits = last_logits(lm.model, said[:, :-1], whole, positions, _copied(cache, of_rows), kept)
                losses.append(_of_logits(logits, said[:, 1:]))
            of_batch = torch.cat(losses, dim=1).cpu()
            yield rows, [loss[: len(answer)] for loss, answer in zip(of_batch, answers, strict=True)]


def _whole(
    lm: LanguageModel, pairs: list[tuple[_Ids, _Ids]], batch_size: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """The same without a cache, each answer behind its whole prompt: for models that keep more than keys and values."""
    order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][1]), len(pairs[i][0])))
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        ids, attention = pad([(*pairs[i][0], *pairs[i][1]) for i in rows], lm.pad_id, side="left", device=lm.device)
        longest = max(len(pairs[i][1]) for i in rows)
        logits = last_logits(lm.model, ids, attention, _positions(attention), kept=longest + 1)
        losses = _of_logits(logits[:, :-1], ids[:, -longest:]).cpu()
        yield rows, [loss[-len(pairs[i][1]) :] for i, loss in zip(rows, losses, strict=True)]


def _positions(attention: Tensor) -> Tensor:
    """[row, column]: of each real token among its row's real ones."""
    return (attention.cumsum(-1) - 1).clamp(min=0)


def _copied(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of these rows, in this order and as often as named; `cache` stays as it is."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    copied.batch_select_indices(rows)
    return copied


def _of_logits(logits: Tensor, said: Tensor) -> Tensor:
    """−log softmax(logits)[said], in fp32. logits: [row, token, vocabulary], said: [row, token]."""
    rows = max(1, _HEAD_AT_ONCE // (logits.shape[1] * logits.shape[2]))
    pieces = zip(logits.split(rows), said.unsqueeze(-1).split(rows), strict=True)
    return torch.cat([(of := x.float()).logsumexp(-1) - of.gather(-1, y).squeeze(-1) for x, y in pieces])


def _check(lm: LanguageModel, prompt: _Ids, answer: _Ids, where: str) -> None:
    if not prompt or not answer:
        raise PsrError("there is nothing to read", where=where, expected="a prompt and an answer, of a token at least",
                       got=f"{len(prompt)} and {len(answer)} tokens")  # fmt: skip
    check_ids((*prompt, *answer), lm.vocabulary, where)
    if len(prompt) + len(answer) > lm.context:
        raise PsrError(
            "prompt and answer do not fit the model's context",
            where=where,
            expected=f"at most {lm.context} tokens",
            got=f"{len(prompt)} of the prompt + {len(answer)} of the answer",
        )
