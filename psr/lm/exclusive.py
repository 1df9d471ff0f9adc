"""Who may change what a model returns: one thread at a time.

Hooks belong to a model and not to a thread: what one thread steers, every thread that runs the model gets. So fitting and
generation take turns, and steering by hand, which may stay open for long, is refused beside them.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import nn

from psr.errors import PsrError

_CHECK_EVERY = 0.05  # seconds between checks of whether the owner is a thread to wait for


@dataclass(eq=False)
class _Turn:
    """Whose turn it is on one model: the thread that has contexts open, how many, and how many of them by hand.

    line: the threads that wait, in order, so that one which comes again and again does not keep the others out.
    """

    free: threading.Condition = field(default_factory=threading.Condition)
    line: deque[threading.Thread] = field(default_factory=deque)
    owner: threading.Thread | None = None
    depth: int = 0
    by_hand: int = 0


_turns: WeakKeyDictionary[nn.Module, _Turn] = WeakKeyDictionary()
_guard = threading.Lock()
_eager: list[ExitStack] = []
_open = 0


@contextmanager
def alone(blocks: nn.Module, by_hand: bool = False) -> Iterator[None]:
    """While open, no other thread steers the model with these decoder blocks; contexts of one thread may be nested.

    Waits for another thread's generation or fitting. Raises PsrError where either side steers by hand.
    """
    with _guard:
        turn = _turns.setdefault(blocks, _Turn())
    own = threading.current_thread()
    with turn.free:
        if turn.owner is not own and not (turn.owner is None and by_hand):
            turn.line.append(own)
            try:
                while turn.owner is not None or turn.line[0] is not own:
                    _check_wait(turn, by_hand)
                    turn.free.wait(_CHECK_EVERY)
            finally:
                turn.line.remove(own)
        turn.owner, turn.depth, turn.by_hand = own, turn.depth + 1, turn.by_hand + by_hand
    try:
        yield
    finally:
        with turn.free:  # whichever thread closes it
            turn.depth, turn.by_hand = turn.depth - 1, turn.by_hand - by_hand
            if turn.depth == 0:
                turn.owner = None
                turn.free.notify_all()


def _check_wait(turn: _Turn, by_hand: bool) -> None:
    """Refuse to wait where that may take for ever."""
    ended = turn.owner is not None and not turn.owner.is_alive()
    if turn.owner is not None and (by_hand or turn.by_hand or ended):
        raise PsrError(
            "another thread steers this model",
            where=threading.current_thread().name,
            expected="one thread at a time",
            got="a thread that has ended, its context still open" if ended else "",
            do="Close the other context first, or load the model twice.",
        )


@contextmanager
def eager() -> Iterator[None]:
    """While open, compiled code is not used: it does not see hooks that are set after it was compiled."""
    global _open
    with _guard:
        if _open == 0 and "torch._dynamo" in sys.modules:
            _eager.append(ExitStack())
            _eager[-1].enter_context(torch.compiler.set_stance("force_eager"))
        _open += 1
    try:
        yield
    finally:
        with _guard:
            _open -= 1
            if _open == 0 and _eager:
                _eager.pop().close()
