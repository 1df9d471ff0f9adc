"""Where a fit's targets A[l,i | x' y'] are kept: in full, in 8 bits, or nowhere, whichever a budget in bytes allows.

    full         layers · tokens · d · 4 bytes         computed once (psr.lm.recording.Targets, the default)
    8 bits       layers · tokens · (d + 4) bytes       A ≈ scale · code, scale = max|A| / 127 for each layer and token
    recomputed   none                                  the instructed run again for every batch

The 8-bit store's error is at most scale / 2 in each component. Every store lays its targets over a batch by `at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.lm.recording import Targets, last_tokens, record
from psr.types import Example

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

Kind = Literal["full", "8 bits", "recomputed"]
BUDGET = 4 << 30
CHUNK = 64  # examples recorded at a time for the 8-bit store: the full recording never exists
LEVELS = 127


@dataclass(frozen=True, eq=False)
class EightBit:
    """Targets in 8 bits. codes: [layer, token, d] int8; scale: [layer, token] fp32; the rest as in Targets."""

    codes: Tensor
    scale: Tensor
    offsets: tuple[int, ...]
    layers: tuple[int, ...]
    model: str
    span: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def device(self) -> torch.device:
        """Where `at` wants its places and gives its result."""
        return self.codes.device

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """The values at rows [layer] and tokens [batch, token]: [layer, batch, token, d] fp32."""
        at = rows.to(self.device)[:, None, None], tokens
        return self.codes[at] * self.scale[at].unsqueeze(-1)

    def last(self, lengths: Sequence[int], span: str) -> EightBit:
        """As Targets.last: the last lengths[i] tokens of each sequence."""
        keep = last_tokens(self.offsets, lengths, self.span, span)
        offsets = tuple(accumulate(lengths, initial=0))
        return EightBit(self.codes[:, keep], self.scale[:, keep], offsets, self.layers, self.model, span)

    def in_full(self) -> Targets:
        """Its values in fp32: scale · code."""
        return Targets(self.codes * self.scale.unsqueeze(-1), self.offsets, self.layers, self.model, self.span)


@dataclass(frozen=True, eq=False)
class Recomputed:
    """Targets that are never kept: `at` runs the instructed side of the sequences it is asked for."""

    lm: LanguageModel
    examples: Sequence[Example]
    layers: tuple[int, ...]
    span: str
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def device(self) -> torch.device:
        """Where `at` wants its places and gives its result."""
        return torch.device("cpu")

    @property
    def model(self) -> str:
        """The model's fingerprint."""
        return self.lm.fingerprint

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """As EightBit.at; the last token of each row tells which sequence it lies over."""
        offsets = torch.tensor(self.offsets)
        which = torch.searchsorted(offsets, tokens.amax(dim=1), right=True) - 1
        chosen = [self.examples[i] for i in which.tolist()]
        recording = _recorded(self.lm, chosen, [self.layers[row] for row in rows.tolist()], self.span, len(chosen))
        moved = tokens - offsets[which].unsqueeze(-1) + torch.tensor(recording.offsets[:-1]).unsqueeze(-1)
        return recording.values[:, moved.clamp_min(0)]  # outside the span it is 0, and any token will do


Store = Targets | EightBit | Recomputed


def kind_within(tokens: int, layers: int, d: int, budget: int = BUDGET) -> Kind:
    """The most exact way to keep so many span tokens that fits `budget` bytes. Raises PsrError for a negative budget."""
    if budget < 0:
        raise PsrError(
            "a budget makes no sense", where="budget", expected="bytes, 0 or more", got=budget, do="Correct it."
        )
    if tokens * layers * d * 4 <= budget:
        return "full"
    return "8 bits" if tokens * layers * (d + 4) <= budget else "recomputed"


def targets_within(
    lm: LanguageModel, examples: Sequence[Example], layers: Sequence[int], span: str, budget: int = BUDGET
) -> Store:
    """The instructed runs' activations at `layers`, kept as `budget` bytes allow (`kind_within`)."""
    kind = kind_within(sum(example.tokens.length for example in examples), len(layers), lm.d_model, budget)
    if kind == "full":
        return _recorded(lm, examples, layers, span)
    if kind == "recomputed":
        offsets = accumulate((example.tokens.length for example in examples), initial=0)
        return Recomputed(lm, examples, tuple(layers), span, tuple(offsets))
    parts = [examples[at : at + CHUNK] for at in range(0, len(examples), CHUNK)]
    return joined([in_eight_bits(_recorded(lm, part, layers, span)) for part in parts])


def in_eight_bits(targets: Targets) -> EightBit:
    """`targets` with 8 bits a component and one scale for each layer and token."""
    values = targets.values.float()
    scale = values.abs().amax(dim=-1) / LEVELS
    codes = (values / scale.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)).round().to(torch.int8)
    return EightBit(codes, scale, targets.offsets, targets.layers, targets.model, targets.span)


def joined(stores: Sequence[Store]) -> Store:
    """One store after the other, as one. Raises PsrError when they differ in kind, layers, model or span."""
    first = stores[0]
    if len(stores) == 1:
        return first
    if len({(type(one), one.layers, one.model, one.span) for one in stores}) > 1:
        raise PsrError(
            "these targets cannot be joined",
            expected="one kind, layers, model and span",
            got=f"{len(stores)} that differ",
            do="Extract them in the same way.",
        )
    lengths = [end - start for one in stores for start, end in zip(one.offsets, one.offsets[1:], strict=False)]
    offsets = tuple(accumulate(lengths, initial=0))
    if isinstance(first, Recomputed):
        examples = [example for one in stores for example in one.examples]  # type: ignore[union-attr]
        return Recomputed(first.lm, examples, first.layers, first.span, offsets)
    about = (offsets, first.layers, first.model, first.span)
    if isinstance(first, EightBit):
        codes, scale = (torch.cat([getattr(one, name) for one in stores], dim=1) for name in ("codes", "scale"))
        return EightBit(codes, scale, *about)
    return Targets(torch.cat([one.values for one in stores], dim=1), *about)  # type: ignore[union-attr]


def _recorded(
    lm: LanguageModel, examples: Sequence[Example], layers: Sequence[int], span: str, batch_size: int = 32
) -> Targets:
    return record(
        lm,
        [example.tokens.instructed_ids for example in examples],
        [example.tokens.instructed_start for example in examples],
        layers,
        span=span,
        batch_size=batch_size,
    )
