"""What a module costs besides what it does, at the strength whose effect equals the prompt's.

    α*    the smallest α with  effect(α) = the prompt's effect,  on straight lines between the α that were tried,
          which is then tried itself; where no α gets there, the coherent one of the largest effect

Side effects at another strength say nothing: every module has none at α = 0. A fair control is the same module with the
signs of its directions' coordinates randomised (arXiv:2608.24335): as long as it, as often and as strongly open, and
pointing elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.evaluation.alpha_search import CP2_MARGIN, SLACK, Evaluate, Scores
from psr.evaluation.bootstrap import EVALUATE, LEVEL, RESAMPLES, Figure, interval_of
from psr.evaluation.resampling import Array, mean_and_error, once, resample
from psr.judges import checkers
from psr.types import short_hash

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule

CLOSE = 2.0  # points: so near is the prompt's effect
LOOKS = 3  # strengths that are tried, at most, to get there


@dataclass(frozen=True)
class EqualStrength:
    """The choice. effect, wanted: the module's mean effect at alpha, tried or on the line, and the prompt's. reached: whether the
    module comes to within CLOSE of it, or passes it."""

    alpha: float
    effect: float
    wanted: float
    reached: bool


def equal_strength(scores: Scores, effect: ArrayLike, coherence: ArrayLike) -> EqualStrength:
    """The strength at which a module does what the prompt does. scores: effect (as trait) and coherence at each α, from 0 on.

    effect, coherence: the prompt's, [question]. Where the prompt's effect is not reached: the α of the largest effect
    among those at most 2 points less coherent than the prompt. Raises PsrError where the prompt does nothing here.
    """
    judged = zip(scores.alphas, scores.trait, strict=True)
    tried = scores.at([alpha for alpha, row in judged if not np.isnan(row).all()])
    own, sense = (mean_and_error(values, once(tried.questions))[0][0] for values in (tried.trait, tried.coherence))
    wanted, floor = (_mean(values, tried.questions) for values in (effect, coherence))
    if tried.alphas[:1] != (0.0,) or not wanted > own[0]:
        raise PsrError(
            "there is no effect of the prompt to equal",
            expected="more of it with the prompt than without",
            got=f"{wanted:.1f} against {own[0]:.1f}" if tried.alphas[:1] == (0.0,) else "no score without steering",
            do="Measure an attribute that the model's prompt brings about.",
        )
    passed = np.flatnonzero(own >= wanted - SLACK)
    if len(passed):
        high = int(passed[0])
        share = (wanted - own[high - 1]) / (own[high] - own[high - 1])
        alpha = tried.alphas[high - 1] + share * (tried.alphas[high] - tried.alphas[high - 1])
        return EqualStrength(round(float(alpha), 3), wanted, wanted, True)
    able = sense >= floor - CP2_MARGIN - SLACK
    able[0] = True
    row = int(np.where(able, np.round(own, 9), -np.inf).argmax())
    return EqualStrength(tried.alphas[row], float(own[row]), wanted, bool(own[row] >= wanted - CLOSE))


def search_equal(
    evaluate: Evaluate, scores: Scores, effect: ArrayLike, coherence: ArrayLike
) -> tuple[Scores, EqualStrength]:
    """`equal_strength`, tried: an α on a line is scored, and the line drawn again until its effect is within CLOSE of the
    prompt's or LOOKS were taken. Then the tried one that is nearest stands. Returns all scores, and the choice.

    evaluate: strengths -> their scores, on the questions of `scores`.
    """
    looks: list[EqualStrength] = []
    for _ in range(LOOKS):
        choice = equal_strength(scores, effect, coherence)
        if choice.alpha not in scores.alphas:
            scores = scores.merged(evaluate((choice.alpha,)))
        measured = _mean(scores.at((choice.alpha,)).trait[0], scores.questions)
        if np.isnan(measured):
            raise PsrError(
                "no answer at the chosen strength could be judged",
                where=f"alpha {choice.alpha:g}",
                expected="a score of at least one question",
                got="none",
            )
        looks.append(replace(choice, effect=measured))
        if not choice.reached or abs(measured - choice.wanted) <= CLOSE:
            break
    return scores, min(looks, key=lambda one: abs(one.effect - one.wanted))


def signs_randomised(module: SteeringModule, seed: int = 0) -> SteeringModule:
    """The module with a random sign at each coordinate of its directions z, the same for all directions of a layer.

    Lengths and the angles between a layer's directions stay, and so do the gates: what changes is where it points.

        >>> control = signs_randomised(module)
        >>> control.tensors["z"].abs().equal(module.tensors["z"].abs())
        True
    """
    import torch

    z = module.tensors["z"]
    draws = torch.randint(0, 2, (len(z), z.shape[-1]), generator=torch.Generator().manual_seed(seed))
    signs = (2.0 * draws - 1).reshape(len(z), *(1,) * (z.dim() - 2), -1)
    return replace(
        module,
        id=short_hash("signs", module.id, seed),
        tensors={**module.tensors, "z": z * signs},
        origin={**module.origin, "signs": seed},
    )


def ratio(
    numerator: ArrayLike,
    denominator: ArrayLike = 1.0,
    *,
    alpha: float | None = None,
    reached: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Figure:
    """Σ numerator / Σ denominator over questions, with the interval of a bootstrap that draws questions; [question] each.

    A question whose numerator is nan (not judged) is left out and counted. With a denominator of 1 it is the mean.
    """
    over = np.asarray(numerator, dtype=np.float64)
    under = np.broadcast_to(np.asarray(denominator, dtype=np.float64), over.shape)
    scored = ~np.isnan(over)
    over, under = np.where(scored, over, 0.0), np.where(scored, under, 0.0)
    counts = resample(len(over), resamples, seed, EVALUATE)
    value, samples = (_divided(one @ over, one @ under) for one in (once(len(over)), counts))
    low, high = interval_of(float(value[0]), samples, LEVEL)[1:]
    n = int(scored.sum())
    return Figure(float(value[0]), low, high, n, len(over) - n, float("nan"), alpha, reached, samples, seed)


def in_english(texts: Sequence[str]) -> list[bool]:
    """Whether langdetect takes each text for English, as IFEval's checker asks it; a blank one never is, and one without a letter
    counts as English. Raises PsrError where the checkers are not installed."""
    kwargs = {"instruction_id": "language:response_language", "language": "en"}
    return [checkers.follows(kwargs, text)[0] for text in texts]


def _mean(values: ArrayLike, questions: int) -> float:
    row = np.asarray(values, dtype=np.float64)
    if row.shape != (questions,):
        raise PsrError("these scores are of other questions", expected=f"[{questions}]", got=list(row.shape))
    return float(mean_and_error(row[np.newaxis], once(questions))[0][0, 0])


def _divided(over: Array, under: Array) -> Array:
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)
