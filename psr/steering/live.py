"""One open steering context: its state, and the hooks that change what the blocks return while it lasts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.exclusive import eager
from psr.steering.forms import steer_activation
from psr.steering.positions import Given, read_forward
from psr.steering.terms import Term

OnStrength = Callable[[int, Tensor, Tensor], None]


@dataclass(eq=False)
class Group:
    """Terms that begin at the same position of each row. terms: layer -> what is added there.

    start: [batch] long, each row's first steered position in real tokens, or what finds its column in a forward,
    [batch or 1]. first: that column, and mask: [batch, token], 1.0 inside the span, both of the forward that runs.
    """

    terms: dict[int, list[Term]]
    start: Tensor | Callable[[Given], Tensor]
    first: Tensor | None = None
    mask: Tensor = field(default_factory=lambda: torch.empty(0))

    def find(self, given: Given) -> None:
        """Find which positions of this forward lie in the span."""
        if not isinstance(self.start, Tensor):
            self.first = self.start(given)
        elif self.first is None or given.length > 1:  # a prompt may come in several forwards
            start, rows = self.start.to(given.tokens.device), len(self.start)
            self.first = given.padding() + start if rows in (1, given.batch) else start
        if self.first.shape[0] not in (1, given.batch):
            raise PsrError(
                "steering is set for other rows than the model was given",
                where="steering",
                expected=f"{self.first.shape[0]} rows",
                got=given.batch,
                do="Give one Steer for each row of the batch.",
            )
        self.mask = (given.columns() >= self.first.unsqueeze(-1)).float()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only (indices [kept])."""
        self.terms = {layer: [term.keep(rows) for term in terms] for layer, terms in self.terms.items()}
        self.first = None  # the batch may lose columns of padding as well
        self.start = self.start[rows] if isinstance(self.start, Tensor) else self.start


@dataclass(eq=False)
class Live:
    """The state of one open steering context: what is added, in groups that begin at different positions.

    forwards and fired count how often the blocks' owner ran to its end and each hook was called. turn: held by the thread
    whose forward runs.
    """

    groups: list[Group]
    on_strength: OnStrength | None = None
    entered: bool = False
    forwards: int = 0
    fired: Counter[int] = field(default_factory=Counter)
    turn: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[valid-type]

    @property
    def layers(self) -> list[int]:
        """The layers at which something is added."""
        return sorted({layer for group in self.groups for layer in group.terms})

    def enter(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the base model: one forward at a time, whichever threads run the model."""
        self.turn.acquire()  # type: ignore[attr-defined]
        self.before(base, args, kwargs)
        self.entered = True

    def leave(self, base: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Hook of the base model, called even when its forward fails."""
        self.entered = False
        self.free(base, args, output)

    def free(self, owner: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Hook that is called even when a forward fails."""
        with suppress(RuntimeError):  # it failed before its turn
            self.turn.release()  # type: ignore[attr-defined]

    def reach(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the module that holds the blocks, for models that go there past their base model (OPT)."""
        self.turn.acquire()  # type: ignore[attr-defined]
        if not self.entered:
            self.before(owner, args, kwargs)

    def before(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find which positions of this forward lie in the span."""
        given = read_forward(base, args, kwargs)
        for group in self.groups:
            group.find(given)

    def after(self, layer: int, A: Tensor) -> Tensor:
        """A' of one block: what it returned, and every term added to it. Each λ is of what the block returned."""
        self.fired[layer] += 1
        returned = A.float()
        for group in self.groups:
            mask = group.mask.to(A.device)
            for term in group.terms.get(layer, ()):
                lam = term.form.strength(returned, term.params)
                if self.on_strength is not None:
                    self.on_strength(layer, lam, mask)
                A = steer_activation(A, term.alpha.unsqueeze(-1) * mask, lam, term.params["z"])
        return A

    def done(self, owner: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Hook of the module that holds the blocks: a forward has ended."""
        self.forwards += 1

    def check(self) -> None:
        """Raise PsrError unless every hook was called in every forward that ended."""
        missed = [layer for layer in self.layers if self.fired[layer] < self.forwards]
        if missed:
            raise PsrError(
                "the model ran past its steered layers",
                where=f"layer {missed[0]}",
                expected=f"{self.forwards} calls of its hook",
                got=self.fired[missed[0]],
                do="What came out is not steered. Use the model as it was loaded: not compiled, rewritten or cut short.",
            )

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only (indices [kept])."""
        for group in self.groups:
            group.keep(rows)


def _hook(live: Live, layer: int) -> Callable[..., Any]:
    """A forward hook for one block. Its own function, so that `layer` is bound now and not when it runs."""

    def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return live.after(layer, output)
        return (live.after(layer, output[0]), *output[1:])

    return hook


@contextmanager
def opened(model: nn.Module, blocks: nn.ModuleList, live: Live) -> Iterator[Live]:
    """Hooks on `blocks`, those of `model`, for as long as the context is open: what every way to steer ends in."""
    base: nn.Module = getattr(model, "base_model", model)
    owner = next((module for module in base.modules() if any(child is blocks for child in module.children())), base)
    with ExitStack() as stack:
        stack.enter_context(eager())
        if owner is not base:
            stack.enter_context(base.register_forward_pre_hook(live.enter, with_kwargs=True))
            stack.enter_context(base.register_forward_hook(live.leave, always_call=True))
        stack.enter_context(owner.register_forward_pre_hook(live.reach, with_kwargs=True))
        stack.enter_context(owner.register_forward_hook(live.done))
        stack.enter_context(owner.register_forward_hook(live.free, always_call=True))
        for layer in live.layers:
            stack.enter_context(blocks[layer].register_forward_hook(_hook(live, layer)))
        yield live
        live.check()
