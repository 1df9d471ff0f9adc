"""How surprised a frozen model is by given answers: −log p(y_i | prompt, y_<i), token by token.

Prompts are padded on the left, so that all answers end in the last column, and the language-model head runs over the columns
of answers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.lm.cached import arguments
from psr.lm.padding import check_ids, pad

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

BATCH = 32
_HEAD_AT_ONCE = 1 << 24  # logits turned to fp32 in one piece: small enough for a processor's cache to be of use


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

    progress(n) is called with the answers just read. Raises PsrError for an empty prompt or answer, for a token that the
    model does not know, and for a prompt and answer that do not fit the context.
    """
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        _check(lm, prompt, answer, f"answer {i}")
    losses: dict[int, Tensor] = {}
    order = sorted(range(len(answers)), key=lambda i: (len(answers[i]), len(prompts[i])))  # less padding in a batch
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        of_rows = _losses(lm, [prompts[i] for i in rows], [answers[i] for i in rows])
        losses |= {i: loss[-len(answers[i]) :] for i, loss in zip(rows, of_rows, strict=True)}
        if progress is not None:
            progress(len(rows))
    return [losses[i] for i in range(len(answers))]


def _losses(lm: LanguageModel, prompts: list[Sequence[int]], answers: list[Sequence[int]]) -> Tensor:
    """One batch: [row, longest answer], meaningful at the end of each row."""
    sequences = [(*prompt, *answer) for prompt, answer in zip(prompts, answers, strict=True)]
    ids, attention = pad(sequences, lm.pad_id, side="left", device=lm.device)
    longest = max(map(len, answers))
    takes = arguments(type(lm.model).forward)
    options: dict[str, Any] = {
        "logits_to_keep": longest + 1,
        "position_ids": (attention.cumsum(-1) - 1).clamp(min=0),
    }
    options = {name: value for name, value in options.items() if name in takes}
    logits = lm.model(input_ids=ids, attention_mask=attention, use_cache=False, **options).logits
    logits, said = logits[:, -longest - 1 : -1], ids[:, -longest:]
    rows = max(1, _HEAD_AT_ONCE // (longest * logits.shape[-1]))
    pieces = zip(logits.split(rows), said.split(rows), strict=True)
    return torch.cat([_of_logits(piece, of_piece) for piece, of_piece in pieces]).cpu()


def _of_logits(logits: Tensor, said: Tensor) -> Tensor:
    """−log softmax(logits)[said]. logits: [row, token, vocabulary], said: [row, token]."""
    logits = logits.float()
    return logits.logsumexp(-1) - logits.gather(-1, said.unsqueeze(-1)).squeeze(-1)


def _check(lm: LanguageModel, prompt: Sequence[int], answer: Sequence[int], where: str) -> None:
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
