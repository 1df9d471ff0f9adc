"""A thread that watches the Prefect server during a run: the run ends when the server does, and when it is cancelled there.

A worker cancels the runs that it started. Nobody does for a run that a person starts by `python -m flows.reproduce`, and
Prefect's client waits minutes for a server that has died.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from uuid import UUID

from psr.errors import PsrError
from tasks.engine.progress import say

EVERY = 2.0  # seconds between two looks
REFUSAL = 12.0  # seconds of refused connections after which a server is dead
SILENCE = 180.0  # seconds without an answer after which it is; one on a busy machine may be silent for a minute


@contextmanager
def watched(url: str, state: Callable[[], str] = lambda: "") -> Iterator[threading.Event]:
    """While open, end this process with one line when the server at `url` refuses for `REFUSAL` seconds or is
    silent for `SILENCE`.

    state(): the type of the run's state on the server. When that is CANCELLING or CANCELLED, the event that this yields is
    set and the process gets SIGTERM, once.
    """
    over, cancelled = threading.Event(), threading.Event()
    threading.Thread(target=_watch, args=(url, state, over, cancelled), daemon=True, name="watch-run").start()
    try:
        yield cancelled
    finally:
        over.set()


def state_of(run: UUID) -> Callable[[], str]:
    """A function that asks the server for the type of the flow run's state."""
    from prefect.client.orchestration import get_client

    client = get_client(sync_client=True)

    def ask() -> str:
        now = client.read_flow_run(run).state
        return now.type.value if now else ""

    return ask


def _watch(url: str, state: Callable[[], str], over: threading.Event, cancelled: threading.Event) -> None:
    answered = heard = time.monotonic()  # heard: the last time that it did not refuse
    while not over.wait(EVERY):
        look = _look(url)
        if look != "refused":
            heard = time.monotonic()
        if look == "answered":
            answered = time.monotonic()
            with suppress(Exception):  # a server that is going down: the next look says so
                if not cancelled.is_set() and state() in ("CANCELLING", "CANCELLED") and not over.is_set():
                    cancelled.set()
                    say("cancelled in Prefect")
                    os.kill(os.getpid(), signal.SIGTERM)
        now = time.monotonic()
        if (now - heard > REFUSAL or now - answered > SILENCE) and not over.is_set():
            problem = PsrError(
                "the Prefect server died",
                where=url,
                got=f"no answer for {now - answered:.0f} s",
                do="Start it and run again: what was finished is kept.",
            )
            print(problem, file=sys.stderr, flush=True)
            os._exit(1)


def _look(url: str) -> Literal["answered", "refused", "silent"]:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:  # noqa: S310
            return "answered" if reply.status == 200 else "silent"
    except OSError as error:
        refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
        return "refused" if refused else "silent"
