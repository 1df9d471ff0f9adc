"""Steering as hooks on the decoder blocks: A' = A + Σ_k α_k · λ_k(A) · z_k inside the span, row by row (Eq. 7).

    hooked(model, terms, start)     live parameters, gradients flow: what fitting uses
    steered(model, rows)            rows may carry different modules and strengths: what generation uses
    steer(model, module, alpha)     the same modules for every row of whatever the model is given: for use by hand

Each λ_k reads the activation A before any term is added. All three change what the blocks return while the context is open
and nothing else: hooks are removed on any exit, and leaving a context in which the model ran checks that each of them was
called. A position t of a row is steered when t - (left padding of the row) >= start of the row; what t is, positions.py
reads from what the model is given.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from psr.errors import PsrError
from psr.lm.blocks import check_in_memory, decoder_blocks, underlying
from psr.lm.exclusive import alone
from psr.lm.fingerprints import fingerprint
from psr.lm.turns import user_turn
from psr.steering.by_hand import ByHand
from psr.steering.live import Group, Live, OnStrength, opened
from psr.steering.module import SteeringModule, check_alpha, check_model
from psr.steering.positions import Given
from psr.steering.probe import check_steering
from psr.steering.terms import Steer, Term, terms_of, with_alphas

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNSTEERED = Steer(None, 0.0, 0)

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
    live = Live([Group({layer: list(at) for layer, at in terms.items()}, start)], on_strength)
    blocks = decoder_blocks(model)
    with alone(blocks), opened(model, blocks, live):
        yield live


@contextmanager
def steered(model: nn.Module, rows: Sequence[Steer | Sequence[Steer]], *, turns: bool = False) -> Iterator[Live]:
    """Steer each row of the batch as its Steer says, or as several say together; with nothing to do no hook is set.

    turns: further turns follow with the cache kept; R then begins again at the last token of each, as in `steer`.
    Another thread that does the same on this model waits. Raises PsrError for a bad alpha, and for a model that a probe
    finds not to be steered right (psr/steering/probe.py, once a model).
    """
    model = underlying(model)
    blocks = decoder_blocks(model)
    live = live_rows(model, blocks, rows, turns=turns)
    with acting(model, blocks, live):
        yield live


def live_rows(
    model: nn.Module, blocks: nn.ModuleList, rows: Sequence[Steer | Sequence[Steer]], *, turns: bool = False
) -> Live:
    """What `steered` adds, with no hook set yet: `acting` may set them again and again, around each forward."""
    device = next(model.parameters()).device
    groups = []
    for steers in zip_longest(*((row,) if isinstance(row, Steer) else row for row in rows), fillvalue=_UNSTEERED):
        for one in steers:
            check_alpha(one.alpha)
        start = torch.tensor([one.start for one in steers], dtype=torch.long, device=device)
        again = torch.tensor([one.module is not None and one.module.span == "R" for one in steers], device=device)
        begin = partial(_first_of_turn, start, again) if turns else start
        groups.append(Group(_on_blocks(blocks, terms_of(steers, device)), begin))
    return Live(groups)


@contextmanager
def acting(model: nn.Module, blocks: nn.ModuleList, live: Live) -> Iterator[Live]:
    """While open, this thread alone steers the model with these decoder blocks, as `live` says."""
    with alone(blocks):
        if not live.layers:
            yield live
            return
        check_steering(model)
        with opened(model, blocks, live):
            yield live


@contextmanager
def steer(
    model: PreTrainedModel,
    module: SteeringModule | Sequence[SteeringModule],
    alpha: float | Sequence[float] | None = None,
    tokenizer: Any = None,
    start: int | Sequence[int] | None = None,
) -> Iterator[Live]:
    """Steer everything the model is given, by hand: `with psr.steer(model, module, 1.2): pipeline(...)`.

    Works with `model.generate`, pipelines and plain forwards, batches and left padding included. Span R begins at the
    last token of the prompt that is being answered, and again so at a further turn (psr/steering/by_hand.py); QR at the
    first user turn, which is looked for in the ids.

    module: one, or several at once: A' = A + Σ_k α_k · λ_k(A) · z_k (Eq. 7), where at each layer every gate λ_k
    reads the activation A before any of that layer's terms is added. Each module keeps its own layers and its own span;
    the same one twice counts twice. The forms that move towards a target (Proj, LoReFT) are added like any other, and so
    reach it only where nothing else is added along their directions. Contexts inside one another act in turn instead:
    the inner one reads what the outer one has added. alpha: the strength, one for all modules or one for each;
    None: each module's recommended one, which psr.distill gives it, 1.0 where it has none.
    tokenizer: needed for modules on span QR; with it a module refuses a model that it was not fitted on.
    start: where the span begins in each row, counted in real tokens, for whoever knows better:
    `encode_chat(tokenizer, chat).start(span)`; then all modules must be on one span.

    Hooks belong to the model: another thread that runs it meanwhile is steered too, which text streamers rely on;
    psr.generate in another thread is refused. Compiled code is not used meanwhile.
    Raises PsrError for no module, a bad alpha or another number of them than of modules, a model that does not fit or
    cannot be steered, and where the span cannot be found.

        >>> import torch
        >>> with psr.steer(lm.model, [module, module], alpha=[0.25, 0.75], tokenizer=lm.tokenizer):
        ...     said = lm.model.generate(torch.tensor([prompt.ids]), max_new_tokens=60, do_sample=False)
        >>> lm.tokenizer.decode(said[0, len(prompt.ids) :], skip_special_tokens=True) == steered.text
        True
    """
    strengths = with_alphas(module, alpha)
    modules = [one for one, _ in strengths]
    model = cast("PreTrainedModel", underlying(model))
    blocks = decoder_blocks(model)
    check_in_memory(model)
    name = None if tokenizer is None else fingerprint(model, tokenizer)
    for one in modules:
        check_model(one, one.model if name is None else name, _width(model), len(blocks))
    starts = () if start is None else starts_of(start)
    _check_spans(modules, tokenizer, starts)
    looked_for = not starts and any(one.span == "QR" for one in modules)
    by_hand = ByHand(user_turn(tokenizer) if looked_for else None, starts)
    device = next(model.parameters()).device
    live = Live(
        [
            Group(_on_blocks(blocks, terms_of([Steer(one, number, 0)], device)), partial(by_hand.first, one.span))
            for one, number in strengths
        ]
    )
    with alone(blocks, by_hand=True):
        check_steering(model)
        with opened(model, blocks, live), by_hand.generating(model):
            yield live


def _first_of_turn(start: Tensor, again: Tensor, given: Given) -> Tensor:
    """[batch]: the first steered column. start: of the first turn, in real tokens; again [batch] bool: on span R."""
    first = given.padding() + start
    if given.past == 0:
        return first
    return torch.where(again, given.last() if given.length > 1 else torch.zeros_like(first), first)


def _check_spans(modules: Sequence[SteeringModule], tokenizer: Any, starts: tuple[int, ...]) -> None:
    """Raise PsrError unless it can be known where each module's span begins."""
    if not modules:
        raise PsrError("there is no module to steer with", expected="one module or more", got="none")
    question = next((one for one in modules if one.span == "QR"), None)
    if question is not None and tokenizer is None and not starts:
        raise PsrError(
            "this module steers the question too and needs to know where it begins",
            where=question.id,
            expected="tokenizer=… or start=…",
            got="none",
            do="Pass the model's tokenizer.",
        )
    if starts and len({one.span for one in modules}) > 1:
        raise PsrError(
            "the modules' spans do not begin at one position",
            where="start",
            expected="modules on one span, or tokenizer=… in place of start=…",
            got=", ".join(f"{one.id} on {one.span}" for one in modules),
        )


def starts_of(start: int | Sequence[int]) -> tuple[int, ...]:
    """`start` as whole numbers, one for each row or one for all. Raises PsrError for anything else."""
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
