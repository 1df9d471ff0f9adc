"""The search for the strength of each module, on questions that give no figure, as each benchmark has it chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs
from psr.judges.judging import Judge
from psr.types import Attribute
from tasks.asking.answers import Answerer, write_questions
from tasks.asking.judgements import judged_by
from tasks.asking.modules import digest
from tasks.asking.repetition import Asking, Searched
from tasks.figures.strengths import Grid
from tasks.tables.parquet import write_table

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark


def search_unsteered(
    attribute: Attribute,
    benchmark: Benchmark,
    seed: int,
    sampled: Sequence[int],
    answerer: Answerer,
    judge: Judge,
    questions: int | None,
) -> Path:
    """Ask the questions of one repetition, its fit seed and its sampling seeds, with and without the prompt.

    Returns the cell: pairs, which sampling seeds belong to the fit seed, completions, judgements.
    """
    asking = _asking(attribute, benchmark, sampled, answerer, judge, questions)

    def write(folder: Path) -> None:
        if asking.pairs and benchmark.strength.unsteered:
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
    benchmark: Benchmark,
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
    asking = _asking(attribute, benchmark, sampled, answerer, judge, questions)

    def write(folder: Path) -> None:
        chosen = benchmark.strength.choose(benchmark, Searched(asking, module), Grid(**grid, seed=sampled[0]))
        asking.write(folder)
        write_table(
            folder / "candidates.parquet", "candidates", [{"module": module.id, "seed": seed, **row} for row in chosen]
        )

    asked = (answerer.reads, judged_by(judge, [attribute.key]), seed, sampled, [pair.id for pair in asking.pairs])
    return answerer.cells.keep("search", (asked, digest(module), sorted(grid.items())), write)


def _asking(
    attribute: Attribute,
    benchmark: Benchmark,
    sampled: Sequence[int],
    answerer: Answerer,
    judge: Judge,
    questions: int | None,
) -> Asking:
    pairs = held_out_pairs(attribute, "search", questions) if benchmark.strength.asks else ()
    return Asking(answerer, judge, f"search {attribute.key}", pairs, sampled)
