"""Completions to learn from: x' answered for the triplets, x answered for the other side of a difference of means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psr.answers.pairs import fit_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, PromptPair
from tasks.asking.answers import Answerer
from tasks.tables.parquet import write_completions, write_pairs, write_table

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from tasks.benchmarks.contract import Benchmark


def complete_attribute(
    attribute: Attribute, answerer: Answerer, questions: int | None, instructions: int, samples: int, seed: int
) -> Path:
    """Ask the attribute's fitting pairs on both sides. Returns the cell: pairs and completions."""
    pairs = fit_pairs(attribute, questions, instructions)
    asks = fit_asks(pairs, instructions, samples, seed)

    def write(folder: Path) -> None:
        write_pairs(folder / "pairs.parquet", pairs, "fit", "fit")
        write_completions(folder / "completions.parquet", answerer.answer(asks, f"complete {attribute.key}"))

    reads = [(ask.pair.id, ask.method, ask.seed) for ask in asks]
    return answerer.cells.keep("complete", (answerer.reads, reads), write)


def fit_asks(pairs: Sequence[PromptPair], instructions: int, samples: int, seed: int) -> list[Ask]:
    """Both sides of every pair, `samples` times. Each instruction of a question has seeds of its own, so that the plain
    answers to one question differ too."""
    from psr.answers.completions import Ask

    return [
        Ask(pair, method, seed + sample * instructions + place % instructions)
        for place, pair in enumerate(pairs)
        for sample in range(samples)
        for method in (INSTRUCTED, PLAIN)
    ]


def write_benchmarks(out: Path, origins: Iterable[str], benchmarks: Mapping[str, Benchmark]) -> None:
    """What later steps and SQL have to know of the benchmarks, without importing one. origins: their names in the parameters."""
    rows = [
        {
            "origin": origin, "benchmark": name, "asked": one.asked, "sense": one.sense, "strength": one.strength.name,
            **one.package,
        }
        for origin, (name, one) in zip(origins, benchmarks.items(), strict=True)
    ]  # fmt: skip
    write_table(out / "benchmarks.parquet", "benchmarks", rows)
