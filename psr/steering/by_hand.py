"""Where the span begins when the model is called by hand: which prompt does this forward answer?

inside model.generate      the prompt is what generate was given, in however many forwards it is read
a forward from the start   the prompt is all of it
several tokens after a     a further turn of the conversation: R begins again, at its last token; QR began with the
cache                      first user turn and goes on
one token after a cache    the answer goes on
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.turns import UserTurn
from psr.steering.positions import Given
from psr.types import Span


@dataclass(eq=False)
class ByHand(threading.local):
    """Finds where a span begins in each row, forward by forward. user_turn: finds the user turn (for QR).

    starts: [row], where the span begins in real tokens, if the caller says so. prompt: what model.generate is answering,
    while it runs. began: whether a forward from the start was seen. Each thread has a prompt of its own.
    """

    user_turn: UserTurn | None = None
    starts: tuple[int, ...] = ()
    prompt: Given | None = None
    began: bool = False

    def first(self, span: Span, given: Given) -> Tensor:
        """The first column of `span` in each row of a forward, [batch] or [1]."""
        if self.prompt is not None:
            return self._of_prompt(self.prompt, span, given)
        if given.past == 0:
            first, self.began = self._begin(span, given), True
            return first
        if self.starts:
            return self._begin(span, given)
        if span == "R" and given.length > 1:
            return given.last()
        if span == "QR" and not self.began:
            raise PsrError(
                "the beginning of this conversation was not seen",
                where="span QR",
                expected="the whole prompt in one forward",
                got=f"{given.past} tokens in the cache",
                do="Open the steering context before the first turn, or pass start=….",
            )
        return torch.zeros(
            1, device=given.tokens.device
        )  # behind the user turn, or a prompt's last token, or of an answer

    @contextmanager
    def generating(self, model: nn.Module) -> Iterator[None]:
        """While open, model.generate notes which prompt it answers. The method is restored at the end."""
        generate = getattr(model, "generate", None)
        if generate is None:
            yield
            return
        own = model.__dict__.get("generate")

        def generate_from(*args: Any, **kwargs: Any) -> Any:
            outer, self.prompt = self.prompt, _prompt(args, kwargs)
            try:
                return generate(*args, **kwargs)
            finally:
                self.prompt = outer

        model.__dict__["generate"] = generate_from
        try:
            yield
        finally:
            model.__dict__.pop("generate", None)
            if own is not None:
                model.__dict__["generate"] = own

    def _of_prompt(self, prompt: Given, span: Span, given: Given) -> Tensor:
        """The first column in `prompt`, each row repeated as beams and returned sequences repeat it."""
        _check_reads(prompt, given)
        if prompt.attention is None and given.attention is not None and given.attention.shape[1] >= prompt.length:
            mask = given.attention[:, : prompt.length]  # generate's own: it masks padding tokens
            repeated = prompt.tokens.repeat_interleave(max(given.batch // prompt.batch, 1), dim=0).to(mask.device)
            prompt = Given(repeated, 0, mask) if len(repeated) == len(mask) else prompt
        first = self._begin(span, prompt).to(given.tokens.device)
        return first.repeat_interleave(max(given.batch // len(first), 1))

    def _begin(self, span: Span, given: Given) -> Tensor:
        if self.starts:
            starts, padding = torch.tensor(self.starts, device=given.tokens.device), given.padding()
            if self.prompt is not None and len(padding) % len(starts) == 0:
                starts = starts.repeat_interleave(len(padding) // len(starts))  # beams
            return padding + starts if len(starts) in (1, len(padding)) else starts
        if span == "R":
            return given.last()
        if self.user_turn is None or given.ids is None:
            raise PsrError(
                "the user turn can only be found in token ids",
                where="span QR",
                expected="input_ids",
                got="embeddings",
                do="Pass start=….",
            )
        rows = zip(given.ids.tolist(), given.padding().tolist(), given.last().tolist(), strict=True)
        first = [skip + self._in_row(row[skip : end + 1]) for row, skip, end in rows]
        return torch.tensor(first, device=given.tokens.device)

    def _in_row(self, row: list[int]) -> int:
        start = self.user_turn.start(row) if self.user_turn else None
        if start is None:
            raise PsrError(
                "the user turn cannot be found in this prompt",
                where=f"span QR, {len(row)} tokens",
                expected="a chat as the tokenizer's template renders it, its system turn marked as one",
                do="Render it with apply_chat_template, or pass start=encode_chat(…).start('QR').",
            )
        return start


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    """What model.generate was asked to answer."""
    given = (*args[:1], kwargs.get("inputs"), kwargs.get("input_ids"))
    ids, embeddings = next((one for one in given if one is not None), None), kwargs.get("inputs_embeds")
    tokens = embeddings if ids is None or (embeddings is not None and ids.shape != embeddings.shape[:2]) else ids
    if tokens is None:
        tokens = torch.zeros((1, 1, 1))  # generate then begins with the begin-of-text token, which it does not say
    attention = kwargs.get("attention_mask")
    cached = [int(value.get_seq_length()) for value in kwargs.values() if hasattr(value, "get_seq_length")]
    longer = isinstance(attention, Tensor) and attention.dim() == 2 and attention.shape[1] > tokens.shape[1]
    if longer or any(length >= tokens.shape[1] for length in cached):
        raise PsrError(
            "generate was given a part of the conversation only",
            where="steering, generate",
            expected="all of its tokens, those in the cache too",
            got=f"{tokens.shape[1]} tokens",
            do="Hand it the whole conversation beside its cache.",
        )
    fits = isinstance(attention, Tensor) and attention.shape == tokens.shape[:2]
    return Given(tokens, 0, attention if fits else None)


def _check_reads(prompt: Given, given: Given) -> None:
    """Refuse a first forward of other tokens than the prompt's: guidance runs another text beside it."""
    ours, theirs = prompt.ids, given.ids
    if given.past or ours is None or theirs is None:
        return
    n, times = min(given.length, prompt.length), given.batch // prompt.batch
    repeated = ours.repeat_interleave(max(times, 1), dim=0)
    if len(repeated) != given.batch or not torch.equal(repeated[:, :n].to(theirs.device), theirs[:, :n]):
        raise PsrError(
            "generate runs another text than its prompt",
            where="steering, generate",
            expected="the prompt's tokens",
            got="others, as guidance_scale and negative prompts do",
            do="Generate without guidance.",
        )
