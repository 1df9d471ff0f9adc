"""From judged completions to triplets: what is kept for fitting, and why the rest is not (paper, Section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psr.types import Completion, Dropped, Judgement, PromptPair, Triplet


def means(judgements: Sequence[Judgement], dimension: str) -> dict[str, float | None]:
    """completion id -> its value on one dimension as a share of its scale; None where the judge failed."""
    return {
        judgement.completion: None if judgement.value is None else judgement.value / judgement.scale
        for judgement in judgements
        if judgement.dimension == dimension
    }


def select(
    pairs: Mapping[str, PromptPair],
    completions: Sequence[Completion],
    trait: Mapping[str, float | None],
    coherence: Mapping[str, float | None],
    *,
    min_trait: float = 0.5,
    min_coherence: float = 0.5,
    limit: int | None = None,
) -> tuple[tuple[Triplet, ...], tuple[Dropped, ...]]:
    """Keep the completions that show the trait and make sense; kept + dropped = judged.

    trait, coherence: completion id -> share of the scale, or None (not judged); one beyond [0, 1] counts as its nearer end.
    `limit` keeps the first so many in the order of their ids, which is as good as random and the same on every machine.
    """
    kept: list[Triplet] = []
    dropped: list[Dropped] = []
    for completion in sorted(completions, key=lambda completion: completion.id):
        t, c = trait.get(completion.id), coherence.get(completion.id)
        reason = _reason(t, c, min_trait, min_coherence, full=limit is not None and len(kept) >= limit)
        if reason:
            dropped.append(Dropped(completion.id, reason))
        else:
            kept.append(Triplet(pairs[completion.pair], completion, _within(t), _within(c)))
    return tuple(kept), tuple(dropped)


def _within(share: float | None) -> float:
    return min(max(float(share or 0), 0.0), 1.0)


def _reason(trait: float | None, coherence: float | None, min_trait: float, min_coherence: float, *, full: bool) -> str:
    if trait is None or coherence is None:
        return "not judged"
    if coherence < min_coherence:
        return f"coherence below {min_coherence}"
    if trait < min_trait:
        return f"trait below {min_trait}"
    return "over the limit" if full else ""
