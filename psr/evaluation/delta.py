"""The prompt's effect on the residual stream and a module's, at the same tokens of the same answer y'.

    Δ_acc[l,i] = A[l,i | x' y'] − A[l,i | x y']              Eq. 3: against a run without steering
    Δ_loc[l,i] = A[l,i | x' y'] − A°[l,i]                    A°: what block l returns on x y' when the blocks below it
                                                             have been steered to A[l−1 | x' y'] exactly, on span QR
    D[l,i]     = A[l,i | x y', steered] − A[l,i | x y']      a module's accumulated intervention

Heyman & Vandeputte, "Steer Like the LLM", ICML 2026, Section 3. Δ_acc is what a single layer has to match, Δ_loc what
is left to each layer of an all-layer module. They agree at layer 0. All are at span R: the last prompt token and y'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.lm.recording import Targets, record
from psr.steering.hooks import Steer, steered
from psr.steering.module import SteeringModule, check_model
from psr.types import AlignedTokens

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Contrast:
    """Activations of the same answers in three runs, at span R of every layer: on x' y', on x y', and A° as above."""

    instructed: Targets
    plain: Targets
    below: Targets

    @property
    def acc(self) -> Tensor:
        """Δ_acc [layer, token, d]."""
        return self.instructed.values - self.plain.values

    @property
    def loc(self) -> Tensor:
        """Δ_loc [layer, token, d]."""
        return self.instructed.values - self.below.values


def contrast(lm: LanguageModel, tokens: Sequence[AlignedTokens], *, batch_size: int = 32) -> Contrast:
    """Run every answer on x' y', on x y', and on x y' with every block steered exactly. tokens: aligned on span QR."""
    _check(tokens)
    layers = range(lm.n_layers)
    wanted = record(
        lm,
        [one.instructed_ids for one in tokens],
        [one.instructed_start for one in tokens],
        layers,
        span="QR",
        batch_size=batch_size,
    )
    ids, starts = [one.plain_ids for one in tokens], [one.plain_start for one in tokens]
    plain = record(lm, ids, starts, layers, span="QR", batch_size=batch_size)
    below = record(
        lm,
        ids,
        starts,
        layers,
        span="QR",
        batch_size=batch_size,
        around=lambda rows: exactly_steered(lm, wanted, [tokens[row] for row in rows], rows),
    )
    return Contrast(*(_answers(one, tokens) for one in (wanted, plain, below)))


def instructed_run(lm: LanguageModel, tokens: Sequence[AlignedTokens], *, batch_size: int = 32) -> Targets:
    """A[· | x' y'] at span R of every layer; with another prompt x'' in x's place, the paraphrase's run. tokens: on QR."""
    _check(tokens)
    run = record(
        lm,
        [one.instructed_ids for one in tokens],
        [one.instructed_start for one in tokens],
        range(lm.n_layers),
        span="QR",
        batch_size=batch_size,
    )
    return _answers(run, tokens)


def steered_run(
    lm: LanguageModel, tokens: Sequence[AlignedTokens], module: SteeringModule, alpha: float, *, batch_size: int = 32
) -> Targets:
    """A[· | x y', steered] at span R of every layer, the module acting on its own span. tokens: aligned on span QR.

    Raises PsrError for a module of another model.
    """
    _check(tokens)
    check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    acts = [Steer(module, alpha, one.plain_start if module.span == "QR" else _answer(one)) for one in tokens]
    return record(
        lm,
        [one.plain_ids for one in tokens],
        [_answer(one) for one in tokens],
        range(lm.n_layers),
        span="R",
        batch_size=batch_size,
        around=lambda rows: steered(lm.model, [acts[row] for row in rows]),
    )


@contextmanager
def exactly_steered(
    lm: LanguageModel, wanted: Targets, tokens: Sequence[AlignedTokens], rows: Sequence[int]
) -> Iterator[None]:
    """While open, every block but the first reads wanted[layer − 1] at the span's tokens of a right-padded batch of x y'.

    wanted: A[· | x' y'] of every layer; rows: the batch's rows in it. What blocks return is not changed.
    """
    width = max(len(one.plain_ids) for one in tokens)
    position = torch.arange(width)
    start, length = (
        torch.tensor(column).unsqueeze(-1)
        for column in ([one.plain_start for one in tokens], [len(one.plain_ids) for one in tokens])
    )
    inside = (position >= start) & (position < length)
    offset = torch.tensor([wanted.offsets[row] for row in rows]).unsqueeze(-1)
    index = torch.where(inside, offset + position - start, 0)
    handles = [
        lm.blocks[layer].register_forward_pre_hook(_mending(wanted.values[layer - 1], index, inside), with_kwargs=True)
        for layer in range(1, lm.n_layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mending(values: Tensor, index: Tensor, inside: Tensor) -> Callable[..., Any]:
    """A pre-hook that puts values[index] where `inside`. A function of its own, so that `values` is bound per layer."""

    def hook(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        A = args[0] if args else kwargs["hidden_states"]
        mended = torch.where(inside.unsqueeze(-1).to(A.device), values[index].to(A.device, A.dtype), A)
        return ((mended, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": mended})

    return hook


def _answers(run: Targets, tokens: Sequence[AlignedTokens]) -> Targets:
    """A run on span QR, cut to span R."""
    return run.last([one.response + 1 for one in tokens], "R")


def _answer(one: AlignedTokens) -> int:
    """First position of span R on the plain side: the last prompt token."""
    return len(one.plain_ids) - one.response - 1


def _check(tokens: Sequence[AlignedTokens]) -> None:
    other = [i for i, one in enumerate(tokens) if one.span != "QR"]
    if other or not tokens:
        raise PsrError(
            "answers are contrasted on span QR, and taken at its end",
            expected="at least one, all aligned on QR",
            got=f"span {tokens[other[0]].span} at {other[0]}" if other else "none",
            do="Align them on span QR.",
        )
