"""The rows that are decoded together: prompts padded on the left, one key-value cache, one token a row and step.

    batch = start(lm, numbers, requests, samplings)    nothing is computed yet
    with batch.acting(): batch.step()                  one forward and a token for each row; the first reads the prompts
    batch.keep(rows)                                   go on with these rows only
    batch.join(other)                                  another batch's rows go on in this one

Each row has its own prompt, seed, module, strength and sampling. Rows that join others get more padding on their left,
which changes nothing but rounding; a cache that forgets or mixes columns (sliding windows, recurrences) cannot be joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as padded

from psr.answers.request import Request
from psr.answers.sampling import Sampling, pick, uniforms
from psr.errors import PsrError
from psr.lm.cached import fresh_cache, keeps_columns, next_logits
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.steering.hooks import Live, Steer, acting, live_rows

_PER_ROW = ("rows", "inputs", "positions", "attention", "u", "made", "longest", "stopped", "sound")
_WASTE, _ALLOWED = (
    2,
    2048,
)  # a joined cache has at most so many times the columns that are real tokens, and so many more


@dataclass(eq=False)
class Batch:
    """The rows still running. Tensors have a row for each; `stopped` and `sound` are of all steps so far, `logits` of the last.

    stopped: has sampled a stop token or all that was asked for. sound: its logits were finite numbers until it stopped.
    """

    lm: LanguageModel
    steers: list[tuple[Steer, ...]]
    samplings: list[Sampling]
    live: Live
    rows: Tensor  # [running]: their numbers, which the caller gave
    inputs: Tensor  # [running, token]: the prompts, then the last token alone
    positions: Tensor  # [running, token]
    attention: Tensor  # [running, cached + token]
    u: Tensor  # [running, most new tokens]
    made: Tensor  # [running]: tokens sampled so far
    longest: Tensor  # [running]: tokens to sample at most
    stopped: Tensor  # [running] bool
    sound: Tensor  # [running] bool
    cache: Any
    stops: Tensor  # [stop token]
    alike: list[tuple[Sampling, Tensor | None]]  # rows that are sampled alike; None: all of them
    logits: Tensor  # [running, vocabulary]

    def acting(self) -> AbstractContextManager[Live]:
        """While open, the batch's modules steer the model; another thread that steers it waits."""
        return acting(self.lm.model, self.lm.blocks, self.live)

    def step(self) -> Tensor:
        """One forward, and one token for each row: [running]. What comes after a row has stopped means nothing."""
        self.logits = next_logits(self.lm.model, self.inputs, self.attention, self.positions, self.cache)
        u = self.u.gather(1, self.made.unsqueeze(-1)).squeeze(-1)
        new, sound = self._pick(u)
        self.made = self.made + 1
        self.sound &= sound | self.stopped
        self.stopped |= torch.isin(new, self.stops) | (self.made >= self.longest)
        self.inputs, self.positions = new.unsqueeze(-1), self.positions[:, -1:] + 1
        self.attention = torch.cat([self.attention, self.attention.new_ones(len(new), 1)], dim=1)
        return new

    def _pick(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Each row sampled as its own settings say."""
        first, every = self.alike[0]
        if every is None:
            return pick(self.logits, u, first)
        new, sound = torch.empty_like(self.rows), torch.empty_like(self.sound)
        for sampling, rows in self.alike:
            new[rows], sound[rows] = pick(self.logits[rows], u[rows], sampling)
        return new, sound

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only (indices [kept], at least one)."""
        for name in (*_PER_ROW, "logits"):
            setattr(self, name, getattr(self, name)[rows])
        self.cache.batch_select_indices(rows)
        self.live.keep(rows)
        kept = rows.tolist()
        self.steers, self.samplings = [self.steers[i] for i in kept], [self.samplings[i] for i in kept]
        self.alike = _alike(self.samplings, self.rows.device)

    def trim(self) -> None:
        """Drop the columns on the left that are padding in every row, where the cache allows it."""
        unused = int((self.attention.cumsum(-1) == 0).all(0).sum()) if keeps_columns(self.cache) else 0
        if unused:
            self.attention = self.attention[:, unused:]
            for layer in self._layers():
                layer.keys, layer.values = layer.keys[..., unused:, :], layer.values[..., unused:, :]

    def joins(self, other: Batch) -> bool:
        """Whether the two can go on as one, and lose little by padding."""
        begun = self.logits.shape[1] > 0 and other.logits.shape[1] > 0
        if not (begun and keeps_columns(self.cache) and keeps_columns(other.cache)):
            return False
        columns = max(self.attention.shape[1], other.attention.shape[1])
        real = int(self.attention.sum()) + int(other.attention.sum())
        return columns * (len(self.rows) + len(other.rows)) <= _WASTE * real + _ALLOWED

    def join(self, other: Batch) -> None:
        """The other batch's rows go on in this one, behind its own. Both have made a step; the other is not used any more."""
        columns = max(self.attention.shape[1], other.attention.shape[1])
        for mine, others in zip(self._layers(), other._layers(), strict=True):
            mine.keys = _stacked(mine.keys, others.keys, columns - 1)
            mine.values = _stacked(mine.values, others.values, columns - 1)
        most = max(self.u.shape[1], other.u.shape[1])
        for batch in (self, other):
            batch.attention = padded(batch.attention, (columns - batch.attention.shape[1], 0))
            batch.u = padded(batch.u, (0, most - batch.u.shape[1]))
        for name in _PER_ROW:
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.steers, self.samplings = self.steers + other.steers, self.samplings + other.samplings
        self.live = live_rows(self.lm.model, self.lm.blocks, self.steers)
        self.alike = _alike(self.samplings, self.rows.device)

    def _layers(self) -> list[Any]:
        return [layer for layer in self.cache.layers if layer.is_initialized]  # some share another's keys


def start(
    lm: LanguageModel, numbers: Sequence[int], requests: Sequence[Request], samplings: Sequence[Sampling]
) -> Batch:
    """The batch of these requests before its first step. Positions count real tokens only."""
    ids, attention = pad([request.prompt.ids for request in requests], lm.pad_id, side="left", device=lm.device)
    longest = [sampling.max_new_tokens for sampling in samplings]
    rows = torch.tensor(numbers, dtype=torch.long, device=lm.device)
    steers = [request.steers for request in requests]
    return Batch(
        lm,
        steers,
        list(samplings),
        live_rows(lm.model, lm.blocks, steers),
        rows,
        ids,
        (attention.cumsum(-1) - 1).clamp(min=0),
        attention,
        uniforms([request.seed for request in requests], max(longest)).to(lm.device),
        torch.zeros_like(rows),
        torch.tensor(longest, device=lm.device),
        torch.zeros_like(rows, dtype=torch.bool),
        torch.ones_like(rows, dtype=torch.bool),
        fresh_cache(lm.model),
        torch.tensor(lm.stop_ids, dtype=torch.long, device=lm.device),
        _alike(samplings, lm.device),
        torch.empty(len(requests), 0, device=lm.device),
    )


class NotFinite(PsrError):
    """A row's logits are nan or infinite."""

    def __init__(self) -> None:
        super().__init__(
            "the model's logits are not finite numbers",
            expected="finite logits",
            got="nan or infinity",
            do="Steer with a smaller alpha, or load the model as float32.",
        )


def check_sound(sound: Tensor) -> None:
    """Raise NotFinite unless the logits of every row were finite. sound: [row] bool."""
    if not bool(sound.all()):
        raise NotFinite


def _alike(samplings: Sequence[Sampling], device: torch.device) -> list[tuple[Sampling, Tensor | None]]:
    """The rows by temperature and top_p."""
    groups: dict[tuple[float, float], list[int]] = {}
    for i, one in enumerate(samplings):
        groups.setdefault((one.temperature, one.top_p), []).append(i)
    if len(groups) == 1:
        return [(samplings[0], None)]
    return [(samplings[rows[0]], torch.tensor(rows, device=device)) for rows in groups.values()]


def _stacked(upper: Tensor, lower: Tensor, columns: int) -> Tensor:
    """Keys or values of two batches [row, head, column, d], each with so many columns."""
    return torch.cat([padded(one, (0, 0, columns - one.shape[-2], 0)) for one in (upper, lower)])
