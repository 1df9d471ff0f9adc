"""Conversations of several turns with the key-value cache kept: what was steered stays steered in it.

A further turn adds its tokens to the cache, and nothing before them is computed again: the keys and values of earlier
answers are those that steering made. Where answers run anew over the whole text (psr/answers/generation.py), a module on
span R no longer steers the earlier ones, so its cost over many turns cannot be seen there. On span QR all of the
conversation is steered from the first question on; on R, in each turn, the last token of the prompt and the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psr.answers.batch import check_sound
from psr.answers.completions import row_seed
from psr.answers.generation import Answer, read_answer
from psr.answers.request import Request, check_requests
from psr.answers.sampling import Sampling, pick, uniforms
from psr.errors import PsrError
from psr.lm.cached import fresh_cache, keeps_columns, next_logits
from psr.lm.chats import encode_chat, encode_turn
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.lm.thinking import marks
from psr.steering.hooks import steered
from psr.steering.module import SteeringModule
from psr.types import Chat, Message


@dataclass(frozen=True, eq=False)
class Conversation:
    """Questions to ask one after the other, each behind the answers to those before.

    seed: of the random numbers, with each question. instruction: the system turn, which stays; "" for none.
    module, alpha: what steers it, in all turns.
    """

    questions: tuple[str, ...]
    seed: int
    instruction: str = ""
    module: SteeringModule | None = None
    alpha: float = 0.0

    @property
    def chat(self) -> Chat:
        """The first turn."""
        system = (Message("system", self.instruction),) if self.instruction else ()
        return (*system, Message("user", self.questions[0]))


def converse(
    lm: LanguageModel,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[tuple[Answer, ...]]:
    """The answers of every conversation, turn by turn, in the order asked.

    All have equally many: where the next turn of one would not fit the model's context, all end before it, so that a mean
    over conversations is over the same ones in every turn. An answer that had to end is closed by the template's own
    end of a turn. progress(n) is called with the number of answers just made.
    Raises PsrError for no conversations, for different numbers of questions, for what `generate` refuses, and for a chat
    template that writes earlier turns anew.
    """
    if len({len(one.questions) for one in conversations}) != 1 or not conversations[0].questions:
        raise PsrError(
            "conversations have as many turns as each other",
            expected="one or more, with equally many questions each",
            got=sorted({len(one.questions) for one in conversations}) or "none",
        )
    requests = [
        Request(encode_chat(lm.tokenizer, one.chat, context=lm.context), one.seed, one.module, one.alpha)
        for one in conversations
    ]
    check_requests(lm, requests, sampling, batch_size)
    batch_size = batch_size if keeps_columns(fresh_cache(lm.model)) else 1  # columns between two turns are masked
    answers: list[tuple[Answer, ...]] = []
    for at in range(0, len(conversations), batch_size):
        part = slice(at, at + batch_size)
        answers += _batch(lm, conversations[part], requests[part], sampling, progress)
    turns = min(map(len, answers))
    return [one[:turns] for one in answers]


@torch.inference_mode()
def _batch(
    lm: LanguageModel,
    conversations: Sequence[Conversation],
    requests: Sequence[Request],
    sampling: Sampling,
    progress: Callable[[int], None] | None,
) -> list[tuple[Answer, ...]]:
    """One batch, all turns in one cache."""
    own = marks(lm.tokenizer)
    answers: list[tuple[Answer, ...]] = [()] * len(conversations)
    cached = _Cached(lm, sampling, torch.zeros(len(conversations), 0, dtype=torch.long, device=lm.device))
    with steered(lm.model, [request.steers for request in requests], turns=True):
        for turn, questions in enumerate(zip(*(one.questions for one in conversations), strict=True)):
            if turn == 0:
                new = [request.prompt.ids for request in requests]
            else:
                between = [
                    encode_turn(lm.tokenizer, one.chat, question)
                    for one, question in zip(conversations, questions, strict=True)
                ]
                new = [(*_uncached(lm, before[-1]), *ids) for before, ids in zip(answers, between, strict=True)]
            if cached.longest(new) + sampling.max_new_tokens > lm.context:
                break
            seeds = [row_seed(question, one.seed) for one, question in zip(conversations, questions, strict=True)]
            rows = cached.answer(new, uniforms(seeds, sampling.max_new_tokens).to(lm.device))
            answers = [
                (*before, read_answer(lm, own, request.prompt, row))
                for before, request, row in zip(answers, requests, rows, strict=True)
            ]
            if progress is not None:
                progress(len(rows))
    return answers


def _uncached(lm: LanguageModel, answer: Answer) -> tuple[int, ...]:
    """The last token of an answer that was cut, which no forward has read."""
    return answer.token_ids[-1:] if answer.token_ids[-1] not in lm.stop_ids else ()


class _Cached:
    """The cache of a batch and which of its columns are real tokens, attention [row, column]."""

    def __init__(self, lm: LanguageModel, sampling: Sampling, attention: Tensor) -> None:
        self.lm, self.sampling, self.attention, self.cache = lm, sampling, attention, fresh_cache(lm.model)
        self.stops = torch.tensor(lm.stop_ids, dtype=torch.long, device=lm.device)

    def longest(self, new: Sequence[Sequence[int]]) -> int:
        """Real tokens of the longest row with `new` behind it."""
        return max(int(held) + len(ids) for held, ids in zip(self.attention.sum(-1), new, strict=True))

    def answer(self, new: Sequence[Sequence[int]], u: Tensor) -> list[list[int]]:
        """Read `new` behind each row and sample its answer with u [row, max_new_tokens]; the stop token is not kept.

        Returns the sampled ids; what a row has behind its stop token means nothing.
        """
        ids, real = pad(new, self.lm.pad_id, side="left", device=self.lm.device)
        stopped = torch.zeros(len(new), dtype=torch.bool, device=self.lm.device)
        tokens: list[Tensor] = []
        while True:
            self.attention = torch.cat([self.attention, real], dim=1)
            positions = (self.attention.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            logits = next_logits(self.lm.model, ids, self.attention, positions, self.cache)
            token, sound = pick(logits, u[:, len(tokens)], self.sampling)
            check_sound(sound | stopped)
            tokens.append(token)
            stopped |= torch.isin(token, self.stops)
            if len(tokens) == u.shape[1] or bool(stopped.all()):
                return torch.stack(tokens, dim=1).tolist()  # type: ignore[no-any-return]
            ids, real = token.unsqueeze(-1), (~stopped).long().unsqueeze(-1)
