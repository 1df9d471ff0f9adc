"""Sampling a token by inverse CDF of one uniform number, so that an answer depends on its own seed and nothing else.

    token = the first v with  p_1 + … + p_v > u · (p_1 + … + p_V),   p = softmax(logits / temperature), cut at top_p

u comes from a counter-based generator keyed by the row's seed, drawn up front: row order, batch size and the batch's
other rows do not enter, and two runs that differ a little in their logits (another α) differ a little in their tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from psr.errors import PsrError


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled. max_new_tokens: the longest answer. temperature 0: always the most likely token. top_p:
    only the fewest most likely tokens that together have this probability; 1: all of them.

    Raises PsrError for fewer than one new token, a negative or infinite temperature, a top_p outside (0, 1].
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise PsrError("no room for an answer", expected="max_new_tokens of at least 1", got=self.max_new_tokens)
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise PsrError("the temperature cannot be used", expected="a finite number from 0 up", got=self.temperature)
        if not 0 < self.top_p <= 1:
            raise PsrError("top_p cannot be used", expected="a number above 0 and up to 1", got=self.top_p)

    @property
    def key(self) -> str:
        """These settings as text, which is a part of a completion's id."""
        return f"max_new_tokens={self.max_new_tokens} temperature={float(self.temperature)} top_p={float(self.top_p)}"


def uniforms(seeds: Sequence[int], steps: int) -> Tensor:
    """Random numbers in [0, 1): [len(seeds), steps] fp64. Row i depends on seeds[i] alone; more steps extend it."""
    rows = [np.random.Generator(np.random.Philox(key=seed % 2**128)).random(steps) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def pick(logits: Tensor, u: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """One token a row. logits: [batch, vocabulary], u: [batch] in [0, 1) -> tokens [batch] long, sound [batch] bool.

    sound is False where the logits are not numbers to sample from (nan or +inf); the token there means nothing.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return logits.argmax(-1), logits.amax(-1).isfinite()
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        probabilities = cut(probabilities, sampling.top_p)
    cumulative = probabilities.to(u.dtype).cumsum(-1)
    total = cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, u.unsqueeze(-1) * total, right=True).squeeze(-1)
    return tokens.clamp(max=logits.shape[-1] - 1), total.squeeze(-1).isfinite()


def cut(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the fewest most likely tokens that together reach top_p (nucleus sampling). [batch, vocabulary]."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, index, kept)
