"""The triplets of one attribute, read back with their parents."""

from __future__ import annotations

from pathlib import Path

from psr.types import PLAIN, Completion, PromptPair, Triplet
from tasks.tables.parquet import read_completions, read_pairs, read_triplets


def triplets_by_attribute(complete: Path, select: Path) -> dict[str, tuple[Triplet, ...]]:
    """attribute key -> its triplets, in the order of the file."""
    pairs, completions = read_pairs(complete / "pairs.parquet"), read_completions(complete / "completions.parquet")
    found: dict[str, list[Triplet]] = {}
    for triplet in read_triplets(select / "triplets.parquet", pairs, completions):
        found.setdefault(triplet.pair.attribute, []).append(triplet)
    return {attribute: tuple(triplets) for attribute, triplets in found.items()}


def plain_answers(complete: Path) -> dict[str, tuple[tuple[PromptPair, Completion], ...]]:
    """attribute key -> its plain completions with their pairs: the other side of a difference of means."""
    pairs = {pair.id: pair for pair in read_pairs(complete / "pairs.parquet")}
    found: dict[str, list[tuple[PromptPair, Completion]]] = {}
    for completion in read_completions(complete / "completions.parquet"):
        if completion.method == PLAIN:
            pair = pairs[completion.pair]
            found.setdefault(pair.attribute, []).append((pair, completion))
    return {attribute: tuple(answers) for attribute, answers in found.items()}
