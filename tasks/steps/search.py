"""The search for the strength of each module, on questions that give no figure, as each benchmark's paper does it.

persona    alpha, bracketed where coherence crosses 80 or the prompt's
axbench    AxBench's factors, the one with the best harmonic mean
ifeval     no search: alpha is 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs
from psr.evaluation.alpha_search import Scores, candidates, search
from psr.evaluation.ratings import strengths
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, Attribute
from tasks.asking.answers import Answerer, write_questions
from tasks.asking.judgements import judged_by
from tasks.asking.modules import digest
from tasks.asking.repetition import Asking
from tasks.figures.scores import by_question, values_of
from tasks.tables.parquet import write_table

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


@dataclass(frozen=True)
class Grid:
    """Which strengths are tried. resamples, seed: of the questions, to see which others might have been chosen."""

    alphas: Sequence[float]
    alpha_max: float
    refine: Sequence[int]
    factors: Sequence[float] | None
    resamples: int
    seed: int


Rows = list[dict[str, Any]]


def search_unsteered(
    attribute: Attribute, seed: int, sampled: Sequence[int], answerer: Answerer, judge: Judge, questions: int | None
) -> Path:
    """Ask the questions of one repetition, its fit seed and its sampling seeds, with and without the prompt.

    Returns the cell: pairs, which sampling seeds belong to the fit seed, completions, judgements.
    """
    asking = _asking(attribute, sampled, answerer, judge, questions)

    def write(folder: Path) -> None:
        if asking.pairs and attribute.benchmark == "persona":
            asking.unsteered()
        write_questions(folder, attribute.key, asking.pairs, "search", seed, sampled)
        asking.write(folder)

    reads = (
        answerer.reads,
        judged_by(judge, [attribute.key]),
        attribute.key,
        seed,
        sampled,
        [pair.id for pair in asking.pairs],
    )
    return answerer.cells.keep("search", ("unsteered", reads), write)


def search_module(
    attribute: Attribute,
    seed: int,
    sampled: Sequence[int],
    folder: Path,
    answerer: Answerer,
    judge: Judge,
    questions: int | None,
    grid: Mapping[str, Any],
) -> Path:
    """Search the strength of the module in `folder` for one repetition.

    Returns the cell: completions, judgements, and the candidates that the evaluation has to generate.
    """
    from psr.steering.module import load_module

    module = load_module(folder)
    asking = _asking(attribute, sampled, answerer, judge, questions)

    def write(folder: Path) -> None:
        look = SEARCHED.get(attribute.benchmark, at_one)
        rows = [
            {"module": module.id, "seed": seed, **row} for row in look(asking, module, Grid(**grid, seed=sampled[0]))
        ]
        asking.write(folder)
        write_table(folder / "candidates.parquet", "candidates", rows)

    asked = (answerer.reads, judged_by(judge, [attribute.key]), seed, sampled, [pair.id for pair in asking.pairs])
    return answerer.cells.keep("search", (asked, digest(module), sorted(grid.items())), write)


def _asking(
    attribute: Attribute, sampled: Sequence[int], answerer: Answerer, judge: Judge, questions: int | None
) -> Asking:
    pairs = held_out_pairs(attribute, "search", questions) if attribute.benchmark in SEARCHED else ()
    return Asking(answerer, judge, f"search {attribute.key}", pairs, sampled)


def match_coherence(asking: Asking, module: SteeringModule, grid: Grid) -> Rows:
    """Persona: every alpha that the search or one of its resamples chooses at the prompt's coherence or at 80."""
    unsteered = replace(asking, completions=[], judgements=[])  # found among the cells: every module shares them
    prompted = [c for c in unsteered.unsteered() if c.method == INSTRUCTED]
    prompt = by_question(prompted, values_of(unsteered.judgements), "coherence", asking.pairs)

    def scored(alphas: Sequence[float]) -> Scores:
        return asking.coherent(module, alphas, unsteered)

    scores = search(scored, prompt, coarse=grid.alphas, alpha_max=grid.alpha_max, refine=grid.refine)
    return [vars(row) for row in candidates(scores, prompt, resamples=grid.resamples, seed=grid.seed)]


def best_factor(asking: Asking, module: SteeringModule, grid: Grid) -> Rows:
    """AxBench: every factor that the questions or one of their resamples choose by the harmonic mean."""
    scores = asking.rated(module, grid.factors or ())
    return [{"point": "HM", **row._asdict()} for row in strengths(scores, resamples=grid.resamples, seed=grid.seed)]


def at_one(_: Asking, __: SteeringModule, ___: Grid) -> Rows:
    """IFEval: alpha is 1."""
    return [{"point": "one", "alpha": 1.0, "share": 1.0, "chosen": True}]


SEARCHED: dict[str, Callable[[Asking, SteeringModule, Grid], Rows]] = {
    "persona": match_coherence,
    "axbench": best_factor,
}
