"""Which strength to use: the smallest α that does as much as the prompt, where answers still make sense.

    safe          the α from 0 on at which coherence is at least that of the unsteered answers, plain or prompted, whichever
                  are the less coherent, less MARGIN points
    recommended   the smallest safe α whose effect is the prompt's; where none gets there, the safe α of the largest effect

Effect and coherence are known at some α and drawn as straight lines between them, on a grid of STEP. The interval repeats the
choice on resampled questions. To suppress, the wanted effect is that of plain answers and lies below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from psr.evaluation.alpha_search import SLACK, Scores
from psr.evaluation.bootstrap import LEVEL, RESAMPLES
from psr.evaluation.resampling import Array, mean_and_error, once, resample

MARGIN = 5.0  # points, of coherence and of effect
STEP = 0.05
GRID = ((0.5, 1.0, 1.5, 2.0), (3.0,), (4.0,), (5.0,))  # scored from left to right until answers stop making sense
REFINE, NEAR = 2, 0.1  # how often the chosen α and the end of the safe range are looked at, unless one so near was


class CurvePoint(NamedTuple):
    """Mean effect and coherence at one strength, on the search questions."""

    alpha: float
    effect: float
    coherence: float


@dataclass(frozen=True)
class Strength:
    """The choice. interval: where 95 % of the choices on resampled questions lie; safe: the ends of the range, its upper end
    being the largest α that was tried where all were safe; reached: whether the effect comes to within MARGIN of the wanted one."""

    alpha: float
    interval: tuple[float, float]
    safe: tuple[float, float]
    reached: bool


@dataclass(frozen=True)
class Unsteered:
    """Effect and coherence of plain and prompted answers, each [question]; wanted: "prompted", or "plain" to suppress."""

    plain: tuple[Array, Array]
    prompted: tuple[Array, Array]
    suppress: bool = False

    @property
    def wanted(self) -> Array:
        """The effect to reach, [question]."""
        return (self.plain if self.suppress else self.prompted)[0]

    @property
    def start(self) -> tuple[Array, Array]:
        """What steering starts from, α = 0."""
        return self.prompted if self.suppress else self.plain


def choose_strength(scores: Scores, unsteered: Unsteered, *, resamples: int = RESAMPLES, seed: int = 0) -> Strength:
    """scores: effect (as trait) and coherence at each α, from 0 on; unsteered: of the same questions."""
    own, high, reached = _choices(scores, unsteered, once(scores.questions))
    drawn, _, _ = _choices(scores, unsteered, resample(scores.questions, resamples, seed, stream=0))
    low, up = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Strength(float(own[0]), (float(low), float(up)), (0.0, float(high[0])), bool(reached[0]))


def search_strength(
    evaluate: Callable[[Sequence[float]], Scores], unsteered: Unsteered, alpha_max: float, seed: int = 0
) -> tuple[Scores, Strength]:
    """Score the grid up to alpha_max, until answers stop making sense, then the chosen α and where sense ends.

    evaluate: strengths above 0 -> their scores, in one batched call.
    """
    effect, coherence = unsteered.start
    scores = Scores((0.0,), effect[np.newaxis], coherence[np.newaxis])
    for alphas in GRID:
        within = sorted({min(alpha, alpha_max) for alpha in alphas} - set(scores.alphas))
        if not within or choose_strength(scores, unsteered, resamples=1).safe[1] < scores.alphas[-1]:
            break
        scores = scores.merged(evaluate(within))
    for _ in range(REFINE):
        now = choose_strength(scores, unsteered, resamples=1)
        beyond = [alpha for alpha in scores.alphas if alpha > now.safe[1]]
        middle = (max(set(scores.alphas) - set(beyond)) + beyond[0]) / 2 if beyond else now.alpha
        fresh = [
            alpha for alpha in {now.alpha, round(middle, 3)} if min(abs(alpha - one) for one in scores.alphas) >= NEAR
        ]
        if not fresh:
            break
        scores = scores.merged(evaluate(sorted(fresh)))
    return scores, choose_strength(scores, unsteered, seed=seed)


def curve(scores: Scores) -> tuple[CurvePoint, ...]:
    """The means at each α."""
    means = [mean_and_error(values, once(scores.questions))[0][0] for values in (scores.trait, scores.coherence)]
    return tuple(CurvePoint(alpha, float(e), float(c)) for alpha, e, c in zip(scores.alphas, *means, strict=True))


def _choices(scores: Scores, unsteered: Unsteered, counts: Array) -> tuple[Array, Array, Array]:
    """For each resample: the chosen α, the upper end of the safe range, and whether the wanted effect is reached."""
    fine: Array = np.append(np.arange(0, scores.alphas[-1], STEP), scores.alphas[-1]).round(9)
    between = np.stack([np.interp(fine, scores.alphas, row) for row in np.eye(len(scores.alphas))], axis=1)
    effect = mean_and_error(scores.trait, counts)[0] @ between.T
    coherence = mean_and_error(scores.coherence, counts)[0] @ between.T
    floor = np.minimum(*(_mean(side[1], counts) for side in (unsteered.plain, unsteered.prompted))) - MARGIN
    safe = np.logical_and.accumulate(coherence >= floor - SLACK, axis=1)
    safe[:, 0] = True
    sign = -1 if unsteered.suppress else 1
    wanted = sign * _mean(unsteered.wanted, counts)
    towards = np.round(np.where(safe & ~np.isnan(effect), np.minimum(sign * effect, wanted), -np.inf), 9)
    row = towards.argmax(axis=1)
    reached = towards[np.arange(len(row)), row] >= wanted[:, 0] - MARGIN
    return fine[row], fine[safe.sum(axis=1) - 1], reached


def _mean(values: Array, counts: Array) -> Array:
    """[resample, 1]"""
    return mean_and_error(values[np.newaxis], counts)[0]
