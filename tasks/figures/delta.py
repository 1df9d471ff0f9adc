"""What the prompt does, as tables: how many directions it has, how strong it is by token, how well that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psr.types import Triplet
from tasks.figures.study import Study, aligned, interval

Rows = list[dict[str, Any]]
KINDS = ("acc", "loc")


def share_rows(study: Study) -> Rows:
    """Share of Δ's energy along its first r directions, per layer. The directions are those of all the questions; the
    intervals draw questions and keep the directions."""
    from psr.evaluation.faithfulness import RANKS, directions, energy, energy_along, intervals, ratio
    from psr.evaluation.resampling import once

    rows: Rows = []
    for kind in KINDS:
        delta = getattr(study.seen, kind)
        along = energy_along(delta, directions(delta, max(RANKS)), study.offsets)
        whole = energy(delta, study.offsets)
        value, samples = ratio(along, whole, once(study.n))[0], ratio(along, whole, study.counts)
        rows += [
            {
                "attribute": study.attribute.key,
                "kind": kind,
                "layer": layer,
                "r": r,
                **interval("energy_share", one, "low", "high"),
                "n": study.n,
            }
            for i, r in enumerate(RANKS)
            for layer, one in enumerate(intervals(value[i], samples[:, i]))
        ]
    return rows


def strength_rows(study: Study) -> Rows:
    """Quantiles of ‖Δ‖ over tokens per layer, and the 99th over the 1st percentile (Fig. 2, claim 1)."""
    import numpy as np

    from psr.evaluation.bootstrap import interval_of
    from psr.evaluation.faithfulness import QUANTILES, quantiles, spread
    from psr.evaluation.resampling import once

    question = np.repeat(np.arange(study.n), np.diff(study.offsets))
    rows: Rows = []
    for kind in KINDS:
        for layer, norms in enumerate(getattr(study.seen, kind).norm(dim=-1).double().cpu().numpy()):
            levels = quantiles(norms, question, once(study.n))[0]
            ratio = interval_of(float(spread(norms, question, once(study.n))[0]), spread(norms, question, study.counts))
            rows.append(
                {
                    "attribute": study.attribute.key,
                    "kind": kind,
                    "layer": layer,
                    **{
                        f"p{round(100 * level):02d}": float(value)
                        for level, value in zip(QUANTILES, levels, strict=True)
                    },
                    **interval("spread", ratio, "spread_low", "spread_high"),
                    "tokens": len(norms),
                    "n": study.n,
                }
            )
    return rows


def token_rows(study: Study, count: int) -> Rows:
    """‖Δ‖ token by token of the first `count` answers; positions count from the start of x y'."""
    rows: Rows = []
    for kind in KINDS:
        norms = getattr(study.seen, kind).norm(dim=-1)
        for i, (answer, one) in enumerate(zip(study.answers[:count], study.tokens, strict=False)):
            first = len(one.plain_ids) - one.response - 1
            tokens = [study.lm.tokenizer.decode([token]) for token in one.plain_ids[first:]]
            here = norms[:, study.offsets[i] : study.offsets[i + 1]].tolist()
            rows += [
                {
                    "completion": answer.id,
                    "kind": kind,
                    "layer": layer,
                    "position": first + at,
                    "token": token,
                    "strength": values[at],
                }
                for layer, values in enumerate(here)
                for at, token in enumerate(tokens)
            ]
    return rows


def read_rows(study: Study, fitted: Sequence[Triplet]) -> Rows:
    """R² of the token strength read off the activation, fitted on the triplets' questions and taken on the study's."""
    import numpy as np

    from psr.evaluation.delta import contrast
    from psr.evaluation.faithfulness import directions, intervals, per_question
    from psr.evaluation.readability import READINGS, r_squared, read_out
    from psr.evaluation.resampling import once

    known = contrast(study.lm, aligned(study.lm, [t.pair for t in fitted], [t.completion for t in fitted]))
    tokens = np.diff(study.offsets).astype(np.float64)
    rows: Rows = []
    for kind, reads in READINGS:
        z = directions(getattr(known, kind), 1).squeeze(1).unsqueeze(-1)
        lam, true = ((getattr(one, kind).double() @ z).squeeze(-1) for one in (known, study.seen))
        for reader in ("linear", "gate"):
            read = read_out(getattr(known, reads).values, lam, reader)  # type: ignore[arg-type]
            terms = ((true - read(getattr(study.seen, reads).values)).square(), true, true.square())
            errors, first, second = (per_question(term, study.offsets) for term in terms)
            value, samples = (
                r_squared(errors, first, second, tokens, counts) for counts in (once(study.n), study.counts)
            )
            rows += [
                {
                    "attribute": study.attribute.key,
                    "kind": kind,
                    "reads": reads,
                    "reader": reader,
                    "layer": layer,
                    **interval("r_squared", one, "low", "high"),
                    "n": study.n,
                }
                for layer, one in enumerate(intervals(value[0], samples))
            ]
    return rows
