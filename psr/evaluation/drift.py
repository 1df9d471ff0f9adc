"""Drift: how far a prompt, a module or an adapter moves the model's predictions on answers made without it.

    KL(p ‖ q) = Σ_v p(v) · (log p(v) − log q(v))      nats, for each token of a plain answer y; 0 where nothing changed

p = p(· | x y_<i) is the untouched model's prediction, q the changed one's at the same token: under the prompt (x' in
x's place), under a module that steers as at use, or with an adapter's weights. y is sampled from the untouched model, so
the mean over its tokens is what the change does to ordinary answers. Kullback & Leibler 1951.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from psr.errors import PsrError
from psr.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, interval_of
from psr.evaluation.resampling import Array, resample
from psr.fitting.lora import adapted
from psr.fitting.teacher import logits_to_end
from psr.lm.padding import pad
from psr.steering.adapter import Adapter
from psr.steering.hooks import Steer, steered
from psr.steering.module import SteeringModule, check_model
from psr.types import AlignedTokens

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

BATCH = 32
Tokens = Sequence[AlignedTokens]
Predict = Callable[[Tokens], Tensor]


@dataclass(frozen=True, eq=False)
class Drift:
    """nats: [answer], summed over the answer's tokens; tokens: [answer], how many."""

    nats: Array
    tokens: Array

    def per_token(self, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> Interval:
        """Mean nats a token over all answers, with the percentile interval of a bootstrap over answers."""
        counts = resample(len(self.nats), resamples, seed, stream=0)
        value = float(self.nats.sum() / self.tokens.sum())
        return interval_of(value, (counts @ self.nats) / (counts @ self.tokens), level)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats along the last axis; both are logits [..., vocabulary]."""
    log_p, log_q = p.float().log_softmax(-1), q.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0)  # rounding alone goes below 0


def prompt_drift(lm: LanguageModel, tokens: Tokens, *, batch_size: int = BATCH) -> Drift:
    """Drift of the instruction: plain answers after x' instead of x. tokens: plain answers, aligned on any span."""
    return _drift(lm, tokens, lambda batch: _predictions(lm, [one.instructed_ids for one in batch], batch), batch_size)


def module_drift(
    lm: LanguageModel, tokens: Tokens, module: SteeringModule, alpha: float, *, batch_size: int = BATCH
) -> Drift:
    """Drift of a module at strength `alpha` on its own span. tokens: plain answers, aligned on span QR.

    Raises PsrError for a module of another model and for answers aligned on another span.
    """
    check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    if module.span == "QR" and any(one.span != "QR" for one in tokens):
        raise PsrError(
            "this module steers the question too",
            where=module.id,
            expected="answers aligned on span QR",
            got="span R",
            do="Align them on QR.",
        )

    def predict(batch: Tokens) -> Tensor:
        with steered(lm.model, [Steer(module, alpha, _start(one, module)) for one in batch]):
            return _plain(lm, batch)

    return _drift(lm, tokens, predict, batch_size)


def adapter_drift(
    lm: LanguageModel, tokens: Tokens, adapter: Adapter, alpha: float, *, batch_size: int = BATCH
) -> Drift:
    """Drift of an adapter at strength `alpha`. tokens: plain answers. Raises PsrError as `adapted` does."""

    def predict(batch: Tokens) -> Tensor:
        with adapted(lm, adapter, alpha):
            return _plain(lm, batch)

    return _drift(lm, tokens, predict, batch_size)


def _start(one: AlignedTokens, module: SteeringModule) -> int:
    """First steered position: the start of span QR, or the last prompt token."""
    return one.plain_start if module.span == "QR" else len(one.plain_ids) - one.response - 1


@torch.no_grad()
def _drift(lm: LanguageModel, tokens: Tokens, predict: Predict, batch_size: int) -> Drift:
    """Drift from the untouched model to predict(batch) [answer token, vocabulary], batch by batch."""
    if not tokens or any(one.response < 1 for one in tokens):
        raise PsrError(
            "drift is measured on answers",
            expected="at least one answer, each with tokens",
            got="none" if not tokens else "an answer without tokens",
        )
    nats: list[float] = []
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size]
        divergences = divergence(_plain(lm, batch), predict(batch))
        nats += [float(part.double().sum()) for part in divergences.cpu().split([one.response for one in batch])]
    return Drift(np.array(nats), np.array([one.response for one in tokens], dtype=np.float64))


def _plain(lm: LanguageModel, tokens: Tokens) -> Tensor:
    return _predictions(lm, [one.plain_ids for one in tokens], tokens)


def _predictions(lm: LanguageModel, sequences: Sequence[Sequence[int]], tokens: Tokens) -> Tensor:
    """Logits of every answer token, [answer token, vocabulary], answer after answer. sequences: prompt and answer."""
    ids, attention = pad(sequences, lm.pad_id, side="right", device=lm.device)
    starts = [len(ids) - one.response - 1 for ids, one in zip(sequences, tokens, strict=True)]
    logits, first = logits_to_end(lm, ids, attention, min(starts)), min(starts)
    return torch.cat(
        [
            row[start - first : start - first + one.response]
            for row, start, one in zip(logits, starts, tokens, strict=True)
        ]
    )
