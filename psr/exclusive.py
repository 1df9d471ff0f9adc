"""Who may change what a model returns: one thread at a time.

Hooks belong to a model and not to a thread: what one thread steers, every thread that runs the model gets. So fitting and
generation take turns, and steering by hand, which may stay open for long, is refused beside them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import nn

from psr.errors import PsrError

_LOOK_EVERY = 0.05  # seconds between looks at whether the holder is one to wait for


@dataclass(eq=False)
class _Turn:
    """Whose turn it is on one model. by_hand: how many contexts opened by hand its holder has open."""

    lock: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[valid-type]
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
    while not turn.lock.acquire(timeout=0 if by_hand else _LOOK_EVERY):  # type: ignore[attr-defined]
        if by_hand or turn.by_hand:
            raise PsrError("another thread steers this model", where=threading.current_thread().name,
                           expected="one thread at a time", do="Close the other context first, or load the model twice.")
    turn.by_hand += by_hand
    try:
        yield
    finally:
        turn.by_hand -= by_hand
        turn.lock.release()  # type: ignore[attr-defined]


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
