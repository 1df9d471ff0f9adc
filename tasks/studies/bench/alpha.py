"""The cost of the search for alpha, in tokens and generate calls, against a sequential bisection for each of its points.

Nothing is timed or generated. The profile's search has recorded each module's curve: the scores of every question and
the tokens of every completion, at every alpha it evaluated. The real search is repeated exactly on these curves with
the profile's settings; the bisections get linear interpolations between recorded alphas, and constant values beyond the
largest. alpha 0 is the plain model, whose answers exist already: it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from psr.evaluation.alpha_search import REFINED, Point, Scores, crossings, search
from psr.evaluation.bisection import bisect
from psr.evaluation.resampling import Array
from psr.types import INSTRUCTED
from tasks.figures.sides import sides
from tasks.studies.bench.material import Material
from tasks.studies.bench.pairs import Figure, ratio
from tasks.tables.modules import rows_of_seed


@dataclass
class Replay:
    """An evaluation that reads a recorded curve, and counts calls and tokens. tokens: [alpha], summed over answers."""

    recorded: Scores
    tokens: Array
    calls: int = 0
    spent: float = 0.0

    def __call__(self, alphas: Sequence[float]) -> Scores:
        steered = [alpha for alpha in alphas if alpha != 0]
        self.calls += bool(steered)
        self.spent += float(np.interp(steered, self.recorded.alphas, self.tokens).sum())
        trait, coherence = (
            np.stack([np.interp(alphas, self.recorded.alphas, of_question) for of_question in values.T], axis=1)
            for values in (self.recorded.trait, self.recorded.coherence)
        )
        return Scores(tuple(alphas), trait, coherence)


class Costs(NamedTuple):
    """The costs for one module: of the batched search for both points, and of a bisection for each."""

    tokens: float
    calls: int
    bisected_tokens: tuple[float, ...]
    bisected_calls: tuple[int, ...]


def alpha_search(material: Material) -> Iterator[Figure]:
    """Tokens of the search for both points against one bisection's, and calls of both bisections against the search's."""
    every = [costs(*curve, material.search) for curve in curves(material)]
    material.advance(material.repeats)
    tokens, alone = [cost.tokens for cost in every], [float(np.mean(cost.bisected_tokens)) for cost in every]
    calls, both = [float(cost.calls) for cost in every], [float(sum(cost.bisected_calls)) for cost in every]
    note = "{:.4g} against {:.4g} {} a module; " + f"{len(every)} modules; recorded curves, the search replayed on them"
    yield Figure(
        "alpha-tokens",
        "searching alpha for TA@C80 and TA@Cp together: tokens",
        "one sequential bisection to the same width: tokens",
        ratio(tokens, alone),
        note.format(np.mean(tokens), np.mean(alone), "tokens"),
        at_most=1.5,
    )
    yield Figure(
        "alpha-calls",
        "a sequential bisection for each of TA@C80 and TA@Cp: generate calls",
        "searching for both together: generate calls",
        ratio(both, calls),
        note.format(np.mean(calls), np.mean(both), "calls"),
        at_least=4,
    )


def costs(recorded: Scores, tokens: Array, prompt: Array, settings: Any) -> Costs:
    """The costs of the real search and of two bisections on one recorded curve. settings: the section `search`."""
    batched, alone = Replay(recorded, tokens), [Replay(recorded, tokens) for _ in REFINED]
    limit = settings["alpha_max"]
    scores = search(batched, prompt, coarse=settings["alphas"], alpha_max=limit, refine=settings["refine"])
    for point, replay in zip(REFINED, alone, strict=True):
        bisect(replay, recorded.at([0.0]), point, prompt, alpha_max=limit, width=width(point, scores, prompt))
    return Costs(batched.spent, batched.calls, tuple(r.spent for r in alone), tuple(r.calls for r in alone))


def width(point: Point, scores: Scores, prompt: Array) -> float:
    """The width of the interval to which the search narrows the crossing of `point`; without one, that of the grid."""
    brackets = crossings(point, scores, prompt)
    return min((high - low for low, high in brackets), default=scores.alphas[-1] - scores.alphas[0])


def curves(material: Material) -> list[tuple[Scores, Array, Array]]:
    """(scores, tokens [alpha], the prompt's coherence [question]) of every module of a trait.

    Concepts and format instructions are not searched this way.
    """
    data, recorded = material.data, []
    for (attribute, seed), side in sorted(sides(data / "search", data / "search").items()):
        if not attribute.startswith("persona/"):
            continue
        for row in rows_of_seed(data / "distill", attribute, seed):
            scores, spent = side.scores(row["id"]), dict.fromkeys(side.scores(row["id"]).alphas, 0)
            for completion in side.of(row["id"]):
                spent[completion.alpha] += len(completion.token_ids)
            tokens = np.array([spent[alpha] for alpha in scores.alphas], dtype=np.float64)
            recorded.append((scores, tokens, side.mean(INSTRUCTED, "coherence")))
    return recorded
