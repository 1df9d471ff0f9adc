"""Requests that come and go while others are being answered, a token at a time: what streams.

    decoder = Decoder(lm)
    decoder.add(1, request, sampling)
    while decoder.busy:
        for event in decoder.step():    # Token or Failed, with the number that the request was added under
            …

    for event in stream(lm, requests, sampling): …    # the same for requests that are all there

What a request is answered depends on it alone: the same tokens as `psr.generate` gives it, rounding aside. Requests that wait
together are read together, and go on in one batch with those that run already, where the key-value cache allows it and
little is lost by padding (psr/answers/batch.py); else several batches take turns. So no request waits for another's end,
as long as fewer than `most` run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from psr.answers.batch import Batch, NotFinite, start
from psr.answers.request import Request, check_requests
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.models import LanguageModel

End = Literal["", "stop", "length"]
_LEAST = -9999.0  # stands for the log-probability of what cannot be sampled


@dataclass(frozen=True)
class Token:
    """A sampled token of the request `number`. end: "stop" for a stop token, "length" for the last of max_new_tokens, "" else.

    logprob, top: only where they were asked for: the token's log-probability, and the most likely (token, log-probability)
    at this position. They are of the steered model's distribution at temperature 1, whatever it is sampled with.
    """

    number: int
    id: int
    end: End
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Failed:
    """The request `number` ended without an answer; the others go on."""

    number: int
    error: PsrError


Event = Token | Failed


class _Waiting(NamedTuple):
    number: int
    request: Request
    sampling: Sampling
    top: int | None


class Decoder:
    """Requests that are answered together; `step` makes a token for each that runs. One thread uses it.

    most: how many run at once; the others wait in order.
    """

    def __init__(self, lm: LanguageModel, most: int = 64) -> None:
        self.lm, self.most = lm, most
        self._waiting: deque[_Waiting] = deque()
        self._batches: list[Batch] = []
        self._own: dict[int, _Waiting] = {}  # those that run

    @property
    def busy(self) -> bool:
        """Whether any request runs or waits."""
        return bool(self._batches or self._waiting)

    @property
    def running(self) -> int:
        """How many requests run."""
        return sum(len(batch.steers) for batch in self._batches)

    def add(self, number: int, request: Request, sampling: Sampling, top: int | None = None) -> None:
        """Answer `request` too, from the next step on. number: no other request's. top: how many of the most likely tokens are
        named at each position, with their log-probabilities; None: and not the sampled token's either.

        Raises PsrError for what `generate` refuses.
        """
        check_requests(self.lm, [request], sampling, 1)
        self._waiting.append(_Waiting(number, request, sampling, top))

    def drop(self, number: int) -> None:
        """Make no more tokens for this request; nothing where it has ended."""
        self._waiting = deque(one for one in self._waiting if one.number != number)
        for batch in list(self._batches):
            if number in batch.rows.tolist():
                self._keep(batch, [i for i, other in enumerate(batch.rows.tolist()) if other != number])

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """A token for each request that runs, after those that wait have begun as far as there is room."""
        events: list[Event] = []
        self._begin()
        for batch in list(self._batches):
            events += self._advance(batch)
        if len(self._batches) > 1:
            self._join()
        return events

    def _begin(self) -> None:
        """The request that waits longest and those whose prompts are about as long get a batch."""
        room = self.most - self.running
        if not self._waiting or room <= 0:
            return
        length = len(self._waiting[0].request.prompt.ids)
        alike = (one for one in self._waiting if length / 2 - 32 <= len(one.request.prompt.ids) <= 2 * length + 64)
        group = list(islice(alike, room))
        self._waiting = deque(one for one in self._waiting if one not in group)
        self._batches.append(self._batch(group))

    def _batch(self, group: Sequence[_Waiting]) -> Batch:
        self._own |= {one.number: one for one in group}
        numbers, requests, samplings, _ = zip(*group, strict=True)
        return start(self.lm, numbers, requests, samplings)

    def _advance(self, batch: Batch) -> list[Event]:
        """One step of one batch, which goes on without the rows that end by it.

        A batch that cannot be computed fails, and no other does; where it was to be read first, each of its rows is tried alone.
        """
        numbers = batch.rows.tolist()
        try:
            with batch.acting():
                ids = batch.step().tolist()
            ended, sound, made = batch.stopped.tolist(), batch.sound.tolist(), batch.made.tolist()
        except Exception as error:
            alone = [self._own[number] for number in numbers]
            self._keep(batch, [])
            if len(alone) > 1 and batch.inputs.shape == batch.attention.shape:  # nothing was cached yet
                self._batches += [self._batch([one]) for one in alone]
                return []
            return [Failed(number, _failure(error)) for number in numbers]
        events: list[Event] = []
        for i, number in enumerate(numbers):
            if not sound[i]:
                events.append(Failed(number, NotFinite()))
                continue
            stops = ids[i] in self.lm.stop_ids
            end: End = "stop" if stops else "length" if made[i] >= batch.samplings[i].max_new_tokens else ""
            top = self._own[number].top
            named = (None, ()) if top is None else _log_probabilities(batch.logits[i], ids[i], top)
            events.append(Token(number, ids[i], end, *named))
        running = [i for i in range(len(numbers)) if sound[i] and not ended[i]]
        if len(running) < len(numbers):
            self._keep(batch, running)
        return events

    @torch.inference_mode()
    def _keep(self, batch: Batch, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch, or without it."""
        gone = set(range(len(batch.steers))) - set(rows)
        for number in (batch.rows[i] for i in gone):
            self._own.pop(int(number), None)
        if not rows:
            self._batches.remove(batch)
            return
        batch.keep(torch.tensor(rows, device=self.lm.device))
        batch.trim()

    def _join(self) -> None:
        """Those batches become one that can."""
        joined: list[Batch] = []
        for batch in self._batches:
            other = next((one for one in joined if one.joins(batch)), None)
            if other is None:
                joined.append(batch)
            else:
                other.join(batch)
        self._batches = joined


def stream(
    lm: LanguageModel, requests: Sequence[Request], sampling: Sampling, *, batch_size: int = 64
) -> Iterator[Event]:
    """The answers to all requests, a token at a time; `number` of an event is the place of its request in the list.

    An iterator that is closed computes no further. Raises PsrError for what `generate` refuses, but for logits that are not finite:
    there the request ends with `Failed`.
    """
    check_requests(lm, requests, sampling, batch_size)
    decoder = Decoder(lm, batch_size)
    for number, request in enumerate(requests):
        decoder.add(number, request, sampling)
    while decoder.busy:
        yield from decoder.step()


def _log_probabilities(logits: Tensor, token: int, top: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Of one position: of `token`, and of the `top` most likely tokens."""
    every = torch.log_softmax(logits.float(), dim=-1).clamp(min=_LEAST)
    values, ids = every.topk(top)
    return float(every[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True))


def _failure(error: Exception) -> PsrError:
    """The error as a line that shows nothing of any request's text."""
    if isinstance(error, PsrError):
        return error
    return PsrError(
        "the model could not answer", got=type(error).__name__, do="Ask less at once, or something shorter."
    )
