"""One thread that runs the model. Requests come from other threads and wait; tokens go out as they are made.

    engine = Engine(lm)
    number = engine.submit(request, sampling, emit)    # emit(event) is called in the engine's thread: Token or Failed
    engine.cancel(number)                              # nobody waits for it any more
    engine.close()

Between two steps other threads may use the model too: `psr.generate` waits for a step's end, and a step for its.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from psr.answers.decoding import Decoder, Event, Failed
from psr.answers.request import Request, check_requests
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.models import LanguageModel

_log = logging.getLogger("psr.serve")
_GATHER = 0.005  # seconds that an idle engine waits for more requests before it reads the first


def place_of(error: BaseException) -> str:
    """The type of an error and the line that raised it; not its text, which may hold a request's."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    line = "" if place is None else f" at {place.tb_frame.f_code.co_filename}, line {place.tb_lineno}"
    return f"{type(error).__name__}{line}"


class QueueFull(PsrError):
    """As many requests wait as may."""


class Stopped(PsrError):
    """The engine answers no more."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


@dataclass(frozen=True, eq=False)
class _Job:
    number: int
    request: Request
    sampling: Sampling
    emit: Callable[[Event], None]
    top: int | None


class Engine:
    """Answers requests together. most: how many run at once; queue: how many wait beside them."""

    def __init__(self, lm: LanguageModel, *, most: int = 32, queue: int = 128) -> None:
        self.lm, self.most, self.queue = lm, most, queue
        self._decoder = Decoder(lm, most)
        self._changed = threading.Condition()
        self._jobs: dict[int, _Job] = {}  # all that have not ended
        self._new: list[_Job] = []
        self._left: list[int] = []
        self._closed = False
        self._numbers = count()
        self.running = 0
        self._thread = threading.Thread(target=self._run, name="psr-engine", daemon=True)
        self._thread.start()

    @property
    def open(self) -> int:
        """How many requests have not ended."""
        return len(self._jobs)

    @property
    def waiting(self) -> int:
        """How many requests wait to be begun."""
        return max(0, len(self._jobs) - self.running)

    def submit(
        self, request: Request, sampling: Sampling, emit: Callable[[Event], None], top: int | None = None
    ) -> int:
        """Answer `request`; returns its number. emit: gets each event, the last of them with an end or Failed; must not wait.

        top: as in `Decoder.add`. Raises QueueFull, Stopped, and PsrError for what `generate` refuses.
        """
        check_requests(self.lm, [request], sampling, 1)
        with self._changed:
            if self._closed:
                raise Stopped
            if len(self._jobs) >= self.most + self.queue:
                raise QueueFull("too many requests wait", expected=f"at most {self.queue}", do="Ask again later.")
            job = _Job(next(self._numbers), request, sampling, emit, top)
            self._jobs[job.number] = job
            self._new.append(job)
            self._changed.notify()
        return job.number

    def cancel(self, number: int) -> None:
        """Make no more tokens for this request; nothing where it has ended. No event comes after this."""
        with self._changed:
            if self._jobs.pop(number, None) is not None:
                self._left.append(number)
                self._changed.notify()

    def stop(self) -> None:
        """End after the step that is being made; what has not been answered fails. May be called in a signal's handler."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            with self._changed:
                new, self._new, left, self._left = self._new, [], self._left, []
                wanted = [job for job in new if job.number in self._jobs]
            for event in self._step(wanted, left):
                self._deliver(event)
            self.running = self._decoder.running
        for number in list(self._jobs):
            self._deliver(Failed(number, Stopped()))

    def _wait(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._changed:
            idle = not self._decoder.busy
            while not (self._decoder.busy or self._new or self._left or self._closed):
                self._changed.wait()
        if idle and self._new:
            time.sleep(_GATHER)
        return not self._closed

    def _step(self, new: list[_Job], left: list[int]) -> list[Event]:
        try:
            for number in left:
                self._decoder.drop(number)
            for job in new:
                self._decoder.add(job.number, job.request, job.sampling, job.top)
            self.running = min(self.most, len(self._jobs))
            return self._decoder.step()
        except Exception as error:  # of ours: what a model raises, the decoder has caught
            _log.error("psr: %s; every running request fails", place_of(error))
            self._decoder = Decoder(self.lm, self.most)
            failure = PsrError("the server failed", got=type(error).__name__)
            return [Failed(number, failure) for number in list(self._jobs)]

    def _deliver(self, event: Event) -> None:
        with self._changed:
            job = self._jobs.get(event.number)
            if isinstance(event, Failed) or event.end:
                self._jobs.pop(event.number, None)
        try:
            if job is not None:
                job.emit(event)
        except Exception as error:
            _log.error("psr: %s", place_of(error))
