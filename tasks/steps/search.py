"""The search for the strength of each module, on questions that give no figure, as each benchmark's paper does it.

persona    alpha, bracketed where coherence crosses 80 or the prompt's
axbench    AxBench's factors, the one with the best harmonic mean
ifeval     no search: alpha is 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.answers.pairs import held_out_pairs
from psr.evaluation.alpha_search import candidates, search
from psr.evaluation.ratings import strengths
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, Attribute
from tasks.asking.models import ModelPlace
from tasks.asking.repetition import Asking
from tasks.engine.gather import part
from tasks.engine.scratch import Scratch
from tasks.figures.scores import by_question, values_of
from tasks.tables.modules import modules_of
from tasks.tables.parquet import write_table

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


@dataclass(frozen=True)
class Grid:
    """Which strengths are tried. resamples, seed: of the questions, to see which others might have been chosen."""

    alphas: Sequence[float]
    alpha_max: float
    refine: Sequence[int]
    factors: Sequence[float]
    resamples: int
    seed: int


Found = Iterator[tuple[str, dict[str, Any]]]


@task(cache_policy=NO_CACHE)
def search_attribute(
    attribute: Attribute,
    seed: int,
    sampled: Sequence[int],
    distill: Path,
    model: ModelPlace,
    judge: Judge,
    scratch: Scratch,
    *,
    questions: int | None,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    **grid: Any,
) -> Path:
    """Search the strength of every module of the attribute for one repetition: its fit seed and its sampling seeds.

    Returns the part: pairs, completions, judgements, and the candidates that the evaluation has to generate.
    """
    name = f"{attribute.benchmark}-{attribute.name}-seed-{seed}"
    pairs = held_out_pairs(attribute, "search", questions) if attribute.benchmark in SEARCHED else ()

    def write(folder: Path) -> None:
        asking = Asking(
            model,
            judge,
            scratch.within(name),
            f"search {attribute.key}",
            pairs,
            sampled,
            temperature,
            max_new_tokens,
            batch_size,
        )
        look = SEARCHED.get(attribute.benchmark, at_one)
        found = look(asking, modules_of(distill, attribute.key, seed), Grid(**grid, seed=sampled[0]))
        rows = [{"module": module, "seed": seed, **candidate} for module, candidate in found]
        asking.write(folder, attribute.key, seed, "search")
        write_table(folder / "candidates.parquet", "candidates", rows)

    return part(scratch, f"part-{name}", write)


def match_coherence(asking: Asking, modules: Sequence[SteeringModule], grid: Grid) -> Found:
    """Persona: every alpha that the search or one of its resamples chooses at the prompt's coherence or at 80."""
    prompted = [c for c in asking.unsteered() if c.method == INSTRUCTED]
    prompt = by_question(prompted, values_of(asking.judgements), "coherence", asking.pairs)
    for module in modules:

        def scored(alphas: Sequence[float], module: SteeringModule = module) -> Any:
            return asking.coherent(module, alphas)

        scores = search(scored, prompt, coarse=grid.alphas, alpha_max=grid.alpha_max, refine=grid.refine)
        for found in candidates(scores, prompt, resamples=grid.resamples, seed=grid.seed):
            yield module.id, vars(found)


def best_factor(asking: Asking, modules: Sequence[SteeringModule], grid: Grid) -> Found:
    """AxBench: every factor that the questions or one of their resamples choose by the harmonic mean."""
    for module in modules:
        scores = asking.rated(module, grid.factors)
        for found in strengths(scores, resamples=grid.resamples, seed=grid.seed):
            yield module.id, {"point": "HM", **found._asdict()}


def at_one(_: Asking, modules: Sequence[SteeringModule], __: Grid) -> Found:
    """IFEval: alpha is 1."""
    for module in modules:
        yield module.id, {"point": "one", "alpha": 1.0, "share": 1.0, "chosen": True}


SEARCHED: dict[str, Callable[[Asking, Sequence[SteeringModule], Grid], Found]] = {
    "persona": match_coherence,
    "axbench": best_factor,
}
