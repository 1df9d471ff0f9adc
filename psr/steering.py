"""Steering as hooks on the decoder blocks: A' = A + α · λ(A) · z inside the span, row by row (Eq. 7).

Three doors, from the inside out:

    hooked(model, terms, start)     live parameters, gradients flow: what fitting uses
    steered(model, rows)            one Steer a row; rows may carry different modules and strengths: what generation uses
    steer(model, module, alpha)     the same module for every row of whatever the model is given: for use by hand

All of them change what the blocks return while the context is open and nothing else: hooks are removed on any exit, and
leaving a context in which the model ran checks that each of them was called. A position t of a row is steered when
t - (left padding of the row) >= start of the row; where t is, psr/positions.py reads from what the model is given.
"""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from psr.blocks import check_in_memory, decoder_blocks, underlying
from psr.by_hand import ByHand
from psr.errors import PsrError
from psr.exclusive import alone, eager
from psr.forms import steer_activation
from psr.module import SteeringModule, check_alpha, check_model
from psr.positions import read_forward
from psr.probe import check_steering
from psr.terms import Steer, Term, terms_of
from psr.user_turn import user_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OnStrength = Callable[[int, Tensor, Tensor], None]
__all__ = ["Live", "Steer", "Term", "hooked", "steer", "steered", "terms_of"]


@dataclass(eq=False)
class Live:
    """The state of one open steering context. start: each row's first steered position, or how it is found by hand.

    first: the same in columns, [batch or 1]; mask: [batch, token], 1.0 inside the span. forwards and fired count how
    often the blocks' owner ran to its end and each hook was called. turn: held by the thread whose forward runs.
    """

    terms: dict[int, list[Term]]
    start: Tensor | ByHand | None
    on_strength: OnStrength | None = None
    first: Tensor | None = None
    mask: Tensor = field(default_factory=lambda: torch.empty(0))
    entered: bool = False
    forwards: int = 0
    fired: Counter[int] = field(default_factory=Counter)
    turn: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[valid-type]

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
        if isinstance(self.start, ByHand):
            self.first = self.start.first(given)
        elif self.start is not None and (
            self.first is None or given.length > 1
        ):  # a prompt may come in several forwards
            start, rows = self.start.to(given.tokens.device), len(self.start)
            self.first = given.padding() + start if rows in (1, given.batch) else start
        if self.first is None or self.first.shape[0] not in (1, given.batch):
            raise PsrError(
                "steering is set for other rows than the model was given",
                where="steering",
                expected=f"{0 if self.first is None else self.first.shape[0]} rows",
                got=given.batch,
                do="Give one Steer for each row of the batch.",
            )
        self.mask = (given.columns() >= self.first.unsqueeze(-1)).float()

    def after(self, layer: int, A: Tensor) -> Tensor:
        """A' of one block: every term added in turn to what the block returned."""
        self.fired[layer] += 1
        mask = self.mask.to(A.device)
        for term in self.terms[layer]:
            lam = term.form.strength(A.float(), term.params)
            if self.on_strength is not None:
                self.on_strength(layer, lam, mask)
            A = steer_activation(A, term.alpha.unsqueeze(-1) * mask, lam, term.params["z"])
        return A

    def done(self, owner: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Hook of the module that holds the blocks: a forward has ended."""
        self.forwards += 1

    def check(self) -> None:
        """Raise PsrError unless every hook was called in every forward that ended."""
        missed = [layer for layer in self.terms if self.fired[layer] < self.forwards]
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
        self.terms = {layer: [term.keep(rows) for term in terms] for layer, terms in self.terms.items()}
        self.first = None if self.first is None else self.first[rows]
        self.start = self.start[rows] if isinstance(self.start, Tensor) else self.start


def _hook(live: Live, layer: int) -> Callable[..., Any]:
    """A forward hook for one block. Its own function, so that `layer` is bound now and not when it runs."""

    def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return live.after(layer, output)
        return (live.after(layer, output[0]), *output[1:])

    return hook


@contextmanager
def opened(model: nn.Module, blocks: nn.ModuleList, live: Live) -> Iterator[Live]:
    """Hooks on `blocks`, those of `model`, for as long as the context is open: what every door ends in."""
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
        for layer in live.terms:
            stack.enter_context(blocks[layer].register_forward_hook(_hook(live, layer)))
        yield live
        live.check()


@contextmanager
def hooked(
    model: nn.Module, terms: Mapping[int, Sequence[Term]], start: Tensor, on_strength: OnStrength | None = None
) -> Iterator[Live]:
    """Steer with live parameters; gradients flow through them.

    terms: layer -> what is added there, in order. start: [batch] long, first steered position of each row counted
    in real tokens (left or right padding both work). on_strength(layer, lam [batch, token], mask [batch, token])
    sees every λ before it is used; mask is 1.0 inside the span (right padding is not masked).
    """
    live = Live({layer: list(at) for layer, at in terms.items()}, start, on_strength)
    blocks = decoder_blocks(model)
    with alone(blocks), opened(model, blocks, live):
        yield live


@contextmanager
def steered(model: nn.Module, rows: Sequence[Steer]) -> Iterator[Live]:
    """Steer each row of the batch as its Steer says; with nothing to do no hook is set.

    Another thread that does the same on this model waits. Raises PsrError for a bad alpha, and for a model that a probe
    finds not to be steered right (psr/probe.py, once a model).
    """
    model = underlying(model)
    for row in rows:
        check_alpha(row.alpha)
    blocks, device = decoder_blocks(model), next(model.parameters()).device
    start = torch.tensor([row.start for row in rows], dtype=torch.long, device=device)
    live = Live(_on_blocks(blocks, terms_of(rows, device)), start)
    with alone(blocks):
        if not live.terms:
            yield live
            return
        check_steering(model)
        with opened(model, blocks, live):
            yield live


@contextmanager
def steer(
    model: PreTrainedModel,
    module: SteeringModule,
    alpha: float = 1.0,
    tokenizer: Any = None,
    start: int | Sequence[int] | None = None,
) -> Iterator[Live]:
    """Steer everything the model is given, by hand: `with steer(model, module, 1.2): pipeline(...)`.

    Works with `model.generate`, pipelines and plain forwards, batches and left padding included. Span R begins at the
    last token of the prompt that is being answered, and again so at a further turn (psr/by_hand.py); QR at the first user
    turn, which is looked for in the ids. start: where the span begins in each row, counted in real tokens, for whoever
    knows better: `encode_chat(tokenizer, chat).start(span)`.

    `tokenizer` is needed for modules on span QR, and lets the module refuse a model that it was not fitted on.
    Hooks belong to the model: another thread that runs it meanwhile is steered too, which text streamers rely on;
    psr.generation in another thread is refused. Compiled code is not used meanwhile.
    Raises PsrError for a bad alpha, a model that does not fit or cannot be steered, and where the span cannot be found.
    """
    alpha = check_alpha(alpha)
    model = cast("PreTrainedModel", underlying(model))
    blocks = decoder_blocks(model)
    check_in_memory(model)
    if tokenizer is not None:
        from psr.fingerprint import fingerprint

        check_model(module, fingerprint(model, tokenizer), _width(model), len(blocks))
    else:
        check_model(module, module.model, _width(model), len(blocks))
    device = next(model.parameters()).device
    starts = () if start is None else _starts(start)
    if module.span == "QR" and tokenizer is None and not starts:
        raise PsrError(
            "this module steers the question too and needs to know where it begins",
            where=module.id,
            expected="tokenizer=… or start=…",
            got="none",
            do="Pass the model's tokenizer.",
        )
    place = ByHand(module.span, user_turn(tokenizer) if module.span == "QR" and not starts else None, starts)
    live = Live(_on_blocks(blocks, terms_of([Steer(module, alpha, 0)], device)), place)
    with alone(blocks, by_hand=True):
        check_steering(model)
        with opened(model, blocks, live), place.generating(model):
            yield live


def _starts(start: int | Sequence[int]) -> tuple[int, ...]:
    try:
        starts = (operator.index(start),) if not isinstance(start, Sequence) else tuple(map(operator.index, start))
        if not starts or min(starts) < 0:
            raise ValueError
    except (TypeError, ValueError):
        raise PsrError(
            "a span cannot begin there",
            where="start",
            expected="a whole number of at least 0, or one for each row",
            got=repr(start),
        ) from None
    return starts


def _on_blocks(blocks: nn.ModuleList, terms: dict[int, list[Term]]) -> dict[int, list[Term]]:
    """Each layer's terms on the device of its block: a large model may lie on several."""
    devices = {layer: next(blocks[layer].parameters()).device for layer in terms}
    return {layer: [term.to(devices[layer]) for term in at] for layer, at in terms.items()}


def _width(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config(decoder=True).hidden_size)
