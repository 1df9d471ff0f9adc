"""What the search for alpha costs, in tokens and in generate calls, against a sequential bisection for each of its two points.

Nothing is timed here and nothing generated. The profile's search stage has recorded each module's curve: the scores of
every question and the tokens of every completion, at every alpha that was asked. The real search is run again with the
profile's own settings on these, which repeats it exactly; the bisections, which ask for alphas in between, are given
linear interpolations, and beyond the largest recorded alpha its own. alpha 0 is the plain model, whose answers are
there already: it costs neither anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.evaluation.alpha_search import POINTS, Point, Scores, crossings, search
from psr.evaluation.bisection import bisect
from psr.evaluation.resampling import Array
from psr.types import INSTRUCTED
from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import ratio

if TYPE_CHECKING:
    from tasks.studies.bench.material import Material


@dataclass
class Replay:
    """An evaluation that looks its scores up; counts calls and tokens. tokens: [alpha], of all answers at that alpha."""

    recorded: Scores
    tokens: Array
    calls: int = 0
    spent: float = 0.0
    asked: list[float] = field(default_factory=list)

    def __call__(self, alphas: Sequence[float]) -> Scores:
        steered = [alpha for alpha in alphas if alpha != 0]
        self.calls += bool(steered)
        self.spent += float(np.interp(steered, self.recorded.alphas, self.tokens).sum())
        self.asked += steered
        return Scores(
            tuple(alphas), self._between(self.recorded.trait, alphas), self._between(self.recorded.coherence, alphas)
        )

    def _between(self, values: Array, alphas: Sequence[float]) -> Array:
        """[alpha, question]: each question's curve at these alphas."""
        return np.stack([np.interp(alphas, self.recorded.alphas, column) for column in values.T], axis=1)


@dataclass(frozen=True)
class Costs:
    """One module's search: the batched one for both points, and a bisection for each."""

    tokens: float
    calls: int
    bisected_tokens: tuple[float, ...]
    bisected_calls: tuple[int, ...]


def alpha_search(material: Material) -> list[Figure]:
    """Tokens of the search for both points against those of one bisection, and generate calls against those of both."""
    found = [costs(recorded, tokens, prompt, material.search) for recorded, tokens, prompt in curves(material)]
    material.advance(material.repeats)
    alone = [float(np.mean(cost.bisected_tokens)) for cost in found]
    both = [float(sum(cost.bisected_calls)) for cost in found]
    told = f"{len(found)} modules; recorded curves, the search replayed on them"
    calls = f"{_mean(cost.calls for cost in found)} against {_mean(both)} calls a module; {told}"
    return [
        Figure(
            "alpha-tokens",
            "searching alpha for TA@C80 and TA@Cp together: tokens",
            "one sequential bisection to the same width: tokens",
            ratio([cost.tokens for cost in found], alone),
            Goal(1.5, at_least=False),
            f"{_mean(cost.tokens for cost in found)} against {_mean(alone)} tokens a module; {told}",
        ),
        Figure(
            "alpha-calls",
            "a sequential bisection for each of TA@C80 and TA@Cp: generate calls",
            "searching for both together: generate calls",
            ratio(both, [float(cost.calls) for cost in found]),
            Goal(4),
            calls,
        ),
    ]


def costs(recorded: Scores, tokens: Array, prompt: Array, told: Any) -> Costs:
    """The real search and its two bisections on one recorded curve. told: the section `search` of the parameters."""
    batched = Replay(recorded, tokens)
    alpha_max = told["alpha_max"]
    scores = search(batched, prompt, coarse=told["alphas"], alpha_max=alpha_max, refine=told["refine"])
    alone = [Replay(recorded, tokens) for _ in POINTS]
    for point, replay in zip(POINTS, alone, strict=True):
        bisect(replay, recorded.at([0.0]), point, prompt, alpha_max=alpha_max, width=width(point, scores, prompt))
    return Costs(batched.spent, batched.calls, tuple(r.spent for r in alone), tuple(r.calls for r in alone))


def width(point: Point, scores: Scores, prompt: Array) -> float:
    """How wide the interval is in which the search leaves the crossing of `point`; without one, the whole range."""
    found = crossings(point, scores, prompt)
    return min((high - low for low, high in found), default=scores.alphas[-1] - scores.alphas[0])


def curves(material: Material) -> list[tuple[Scores, Array, Array]]:
    """(scores, tokens [alpha], the prompt's coherence [question]) of every module that was brought to a matched coherence.

    Concepts and format instructions are not searched in this way.
    """
    from tasks.figures.sides import sides
    from tasks.tables.modules import rows_of_seed

    data, found = material.data, []
    for (attribute, seed), side in sorted(sides(data / "search", data / "search").items()):
        if not attribute.startswith("persona/"):
            continue
        prompt = side.mean(INSTRUCTED, "coherence")
        for row in rows_of_seed(data / "distill", attribute, seed):
            scores = side.scores(row["id"])
            found.append((scores, _tokens(side.of(row["id"]), scores.alphas), prompt))
    return found


def _tokens(completions: Sequence[Any], alphas: Sequence[float]) -> Array:
    spent = dict.fromkeys(alphas, 0)
    for completion in completions:
        spent[completion.alpha] += len(completion.token_ids)
    return np.array([spent[alpha] for alpha in alphas], dtype=np.float64)


def _mean(values: Any) -> str:
    return f"{np.mean(list(values)):.4g}"
