"""The search for alpha: TA@C, trait alignment at a matched coherence (method section 5).

    TA@C = max { trait(α) : α in [0, α_max], coherence(α) >= C − one standard error of the coherence at C }

C80: C = 80, the standard error is that of α's own coherence. Cp: C = the prompted completions' coherence on the same
questions, with its standard error. Ties go to the smaller α. When only α = 0 qualifies the point is not reached, and
the unsteered trait alignment counts. α is chosen on the search questions, the figure comes from others (bootstrap.py).

These two are the paper's (its table of persona vectors). Cp2 is ours: C as for Cp, and 2 points in place of its standard
error. For a module that is as coherent as the prompt Cp is a knife's edge: one that misses by 0.8 points counts as
unsteered, 0 instead of 99. A margin of 2 of 100 points is the same for every prompt and every number of questions.

Trait and coherence are 0..100, the trait of a judge without ends any number. A column is a question; nan means unscored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psr.errors import PsrError
from psr.evaluation.resampling import Array, mean_and_error, once, resample

Point = Literal["C80", "Cp", "Cp2"]
POINTS: tuple[Point, ...] = get_args(Point)
REFINED: tuple[Point, ...] = ("C80", "Cp")  # the points whose crossings are refined; their alphas serve Cp2 too
CP2_MARGIN = 2.0  # points of coherence, fixed before any run
ALPHA_MAX = 4.0
COARSE = (0.0, 0.75, 1.0, 1.5, 2.5)  # dense around 1, which modules are fitted at
REFINE = (2,)
SPREAD = 0.2  # share of a bracket: how far the new alphas lie around its expected crossing
COHERENT_SIDE = 0.05  # share of a bracket: how far they are shifted to the coherent side, so that more alphas qualify
SLACK = 1e-9  # equal coherences must compare as equal, whatever the order of summation


@dataclass(frozen=True, eq=False)
class Scores:
    """Judged values: trait and coherence [alpha, question], nan = unscored; alphas ascending and distinct.

    Raises PsrError when the shapes do not fit or the alphas are not ascending.
    """

    alphas: tuple[float, ...]
    trait: Array
    coherence: Array

    def __post_init__(self) -> None:
        shapes = self.trait.shape, self.coherence.shape
        if shapes[0] != shapes[1] or shapes[0] != (len(self.alphas), self.questions) or self.questions < 1:
            raise PsrError(
                "scores do not fit their alphas", expected=f"two arrays [{len(self.alphas)}, question]", got=shapes
            )
        if any(second <= first for first, second in zip(self.alphas, self.alphas[1:], strict=False)):
            raise PsrError("alphas are not ascending", expected="distinct, smallest first", got=self.alphas)

    @property
    def questions(self) -> int:
        return self.trait.shape[-1] if self.trait.ndim == 2 else 0

    def at(self, alphas: Sequence[float]) -> Scores:
        """The rows of these alphas, ascending. Raises PsrError when one was not scored."""
        missing = sorted(set(alphas) - set(self.alphas))
        if missing:
            raise PsrError("an alpha was not scored", expected=f"some of {self.alphas}", got=missing)
        rows = [self.alphas.index(alpha) for alpha in sorted(set(alphas))]
        return Scores(tuple(self.alphas[row] for row in rows), self.trait[rows], self.coherence[rows])

    def merged(self, other: Scores) -> Scores:
        """Both, ascending. Raises PsrError for scores of other questions, and for an alpha that both have."""
        if self.questions != other.questions:
            raise PsrError(
                "an alpha search got scores for other questions", expected=self.questions, got=other.questions
            )
        alphas = (*self.alphas, *other.alphas)
        order = np.argsort(alphas, kind="stable")
        trait, coherence = np.concatenate([self.trait, other.trait]), np.concatenate([self.coherence, other.coherence])
        return Scores(tuple(alphas[i] for i in order), trait[order], coherence[order])


Evaluate = Callable[[Sequence[float]], Scores]


class Choice(NamedTuple):
    """row: index of the chosen alpha in `alphas`; reached: whether any alpha above 0 qualifies. Both of one shape."""

    row: NDArray[Any]
    reached: NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """An alpha that the evaluation needs. share: of resamples that choose it; chosen: whether the data itself does."""

    point: Point
    alpha: float
    share: float
    chosen: bool


def choose(
    alphas: Sequence[float], trait: ArrayLike, coherence: ArrayLike, C: ArrayLike, tolerance: ArrayLike
) -> Choice:
    """The alpha of the largest mean trait among those with mean coherence >= C − tolerance; ties: the smaller alpha.

    trait, coherence: means [..., alpha]; C and tolerance broadcast to them. Raises PsrError unless alpha 0 is the smallest.
    """
    values = np.asarray(alphas, dtype=np.float64)
    if len(values) == 0 or values.min() != 0:
        raise PsrError(
            "an alpha search starts at the unsteered model", expected="alpha 0 and none below", got=tuple(alphas)
        )
    order = np.argsort(values, kind="stable")
    trait = np.round(np.asarray(trait, dtype=np.float64), 9)  # as SLACK: a tie must stay a tie
    able = _coherent(coherence, C, tolerance) & ~np.isnan(trait)
    reached = np.asarray((able & (values > 0)).any(axis=-1))
    best = np.where(able, trait, -np.inf)[..., order].argmax(axis=-1)  # the first, alpha 0, when none is able
    return Choice(np.asarray(order[best]), reached)


def _coherent(coherence: ArrayLike, C: ArrayLike, tolerance: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(np.asarray(coherence) >= np.asarray(C) - np.asarray(tolerance) - SLACK)


def choose_at(point: Point, scores: Scores, prompt: ArrayLike, counts: Array | None = None) -> Choice:
    """The choice at `point`, for each resample of the questions: row and reached [resample] ([1] without counts).

    prompt: coherence [question] of the prompted completions on the same questions; counts: [resample, question].
    """
    counts = once(scores.questions) if counts is None else counts
    return choose(scores.alphas, *_measured(point, scores, prompt, counts))


def _measured(point: Point, scores: Scores, prompt: ArrayLike, counts: Array) -> tuple[Array, Array, Array, Array]:
    """Mean trait and coherence [resample, alpha], C [resample or 1, 1] and its tolerance [resample, alpha or 1]."""
    if point not in POINTS:
        raise PsrError("unknown point of comparison", expected=f"one of {', '.join(POINTS)}", got=repr(point))
    trait, _ = mean_and_error(scores.trait, counts)
    coherence, error = mean_and_error(scores.coherence, counts)
    wanted = _checked(prompt, scores.questions)[np.newaxis]
    if point == "C80":
        return trait, coherence, np.full((1, 1), 80.0), error
    C, error = mean_and_error(wanted, counts)
    return trait, coherence, C, np.full_like(C, CP2_MARGIN) if point == "Cp2" else error


def _checked(prompt: ArrayLike, questions: int) -> Array:
    values = np.asarray(prompt, dtype=np.float64)
    if values.shape != (questions,):
        raise PsrError(
            "the prompt's coherence is for other questions", expected=f"[{questions}]", got=list(values.shape)
        )
    if np.isnan(values).all():
        raise PsrError(
            "the prompt's coherence was never scored",
            expected="at least one scored question",
            got="none",
            do="Judge the prompted completions first.",
        )
    return values


def search(
    evaluate: Evaluate,
    prompt: ArrayLike,
    *,
    coarse: Sequence[float] = COARSE,
    alpha_max: float = ALPHA_MAX,
    refine: Sequence[int] = REFINE,
) -> Scores:
    """Score a coarse grid of alphas, then more of them where coherence crosses 80 or the prompt's.

    evaluate(alphas) generates and judges ALL of its alphas in one batched call: first the grid; then, for C80 and Cp
    together, the next number of alphas in `refine` around the expected crossing. Of several crossings the one whose
    ends have the largest trait is refined. Where the grid's last alpha is coherent enough, alpha_max is scored before any
    crossing is refined. prompt: the prompted completions' coherence [question].
    Returns everything scored, ascending in alpha. Raises PsrError for alphas beyond alpha_max and empty refinements.
    """
    scores, left = _ask(evaluate, _grid(coarse, alpha_max, refine)), dict.fromkeys(REFINED, tuple(refine))
    while True:
        fresh: set[float] = set()
        for point in REFINED:
            pairs = crossings(point, scores, prompt)
            if scores.alphas[-1] < alpha_max and enough(point, scores, prompt)[-1]:
                fresh.add(float(alpha_max))
            elif pairs and left[point]:
                fresh.update(_between(*pairs[0], _expected(point, pairs[0], scores, prompt), left[point][0]))
                left[point] = left[point][1:]
        if not fresh - set(scores.alphas):
            return scores
        scores = scores.merged(_ask(evaluate, sorted(fresh - set(scores.alphas))))


def _grid(coarse: Sequence[float], alpha_max: float, refine: Sequence[int]) -> list[float]:
    grid = sorted({float(alpha) for alpha in coarse} | {0.0})
    if not np.isfinite([*grid, alpha_max]).all():
        raise PsrError("alpha is not a finite number", expected="numbers such as 1.0", got=(*coarse, alpha_max))
    if grid[0] < 0 or grid[-1] > alpha_max:
        raise PsrError(
            "an alpha lies outside the search", expected=f"0 to alpha_max = {alpha_max:g}", got=tuple(coarse)
        )
    if any(count < 1 for count in refine):
        raise PsrError("a refinement without alphas", expected="numbers of at least 1", got=tuple(refine))
    return grid


def enough(point: Point, scores: Scores, prompt: ArrayLike) -> NDArray[np.bool_]:
    """Whether the mean coherence at each alpha qualifies for `point`, [alpha]."""
    _, coherence, C, tolerance = _measured(point, scores, prompt, once(scores.questions))
    return _coherent(coherence, C, tolerance)[0]


def crossings(point: Point, scores: Scores, prompt: ArrayLike) -> list[tuple[float, float]]:
    """Pairs of neighbouring alphas of which one is coherent enough and one is not; largest trait at an end first."""
    able = enough(point, scores, prompt)
    height = np.nan_to_num(mean_and_error(scores.trait, once(scores.questions))[0][0], nan=-np.inf)
    changes = np.flatnonzero(able[1:] != able[:-1])
    ordered = sorted(changes, key=lambda i: (-max(height[i], height[i + 1]), i))
    return [(scores.alphas[i], scores.alphas[i + 1]) for i in ordered]


def _expected(point: Point, pair: tuple[float, float], scores: Scores, prompt: ArrayLike) -> float:
    """Where the straight line between the pair's coherences crosses C − tolerance, from 0 (lower end) to 1, shifted by
    COHERENT_SIDE; 0.5 where an end is unscored."""
    _, coherence, C, tolerance = _measured(point, scores.at(pair), prompt, once(scores.questions))
    low, high = (coherence - C + tolerance)[0]
    if not np.isfinite(low - high) or low == high:
        return 0.5
    return float(low / (low - high) - (COHERENT_SIDE if low > high else -COHERENT_SIDE))


def _between(low: float, high: float, crossing: float, count: int) -> list[float]:
    """`count` alphas inside the bracket (fewer where two coincide): evenly from SPREAD below `crossing` (0..1) to
    SPREAD above it, none nearer to an end than SPREAD / 2."""
    positions = crossing + (np.linspace(-SPREAD, SPREAD, count) if count > 1 else np.zeros(1))
    alphas = (round(low + (high - low) * float(position), 3) for position in positions.clip(SPREAD / 2, 1 - SPREAD / 2))
    return [alpha for alpha in alphas if low < alpha < high]


def _ask(evaluate: Evaluate, alphas: Sequence[float]) -> Scores:
    scores = evaluate(tuple(alphas))
    if scores.alphas != tuple(alphas):
        raise PsrError("an alpha search got scores for other alphas", expected=tuple(alphas), got=scores.alphas)
    return scores


def candidates(
    scores: Scores, prompt: ArrayLike, *, resamples: int = 1000, seed: int = 0, min_share: float = 0.01
) -> tuple[Candidate, ...]:
    """The alphas that the evaluation needs: chosen by the search, or by at least `min_share` of its resamples.

    scores: from `search`; prompt: as in `search`. For Cp and Cp2 the prompt's coherence is resampled with the questions.
    """
    counts = resample(scores.questions, resamples, seed, stream=0)
    rows = []
    for point in POINTS:
        chosen = int(choose_at(point, scores, prompt).row[0])
        shares = np.bincount(choose_at(point, scores, prompt, counts).row, minlength=len(scores.alphas)) / resamples
        rows += [
            Candidate(point, scores.alphas[i], float(share), i == chosen)
            for i, share in enumerate(shares)
            if share >= min_share or i == chosen
        ]
    return tuple(rows)
