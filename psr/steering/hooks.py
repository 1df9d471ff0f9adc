"""Steering as hooks on the decoder blocks: A' = A + α · λ(A) · z inside the span, row by row (Eq. 7).

Three doors, from the inside out:

    hooked(model, terms, start)     live parameters, gradients flow: what fitting uses
    steered(model, rows)            one Steer a row; rows may carry different modules and strengths: what generation uses
    steer(model, module, alpha)     the same module for every row of whatever the model is given: for use by hand

All of them change what the blocks return while the context is open and nothing else: hooks are removed on any exit, and
leaving a context in which the model ran checks that each of them was called. A position t of a row is steered when
t - (left padding of the row) >= start of the row; where t is, psr/steering/positions.py reads from what the model is given.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.blocks import check_in_memory, decoder_blocks, underlying
from psr.lm.exclusive import alone
from psr.lm.turns import user_turn
from psr.steering.by_hand import ByHand
from psr.steering.live import Live, OnStrength, opened
from psr.steering.module import SteeringModule, check_alpha, check_model
from psr.steering.probe import check_steering
from psr.steering.terms import Steer, Term, terms_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Live", "Steer", "Term", "hooked", "steer", "steered", "terms_of"]


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
    finds not to be steered right (psr/steering/probe.py, once a model).
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
    last token of the prompt that is being answered, and again so at a further turn (psr/steering/by_hand.py); QR at the first user
    turn, which is looked for in the ids. start: where the span begins in each row, counted in real tokens, for whoever
    knows better: `encode_chat(tokenizer, chat).start(span)`.

    `tokenizer` is needed for modules on span QR, and lets the module refuse a model that it was not fitted on.
    Hooks belong to the model: another thread that runs it meanwhile is steered too, which text streamers rely on;
    psr.answers.generation in another thread is refused. Compiled code is not used meanwhile.
    Raises PsrError for a bad alpha, a model that does not fit or cannot be steered, and where the span cannot be found.
    """
    alpha = check_alpha(alpha)
    model = cast("PreTrainedModel", underlying(model))
    blocks = decoder_blocks(model)
    check_in_memory(model)
    if tokenizer is not None:
        from psr.lm.fingerprints import fingerprint

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
