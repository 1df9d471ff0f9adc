"""The triplets of one attribute, read back with their parents."""

from __future__ import annotations

from pathlib import Path

from psr.types import PLAIN, Completion, PromptPair, Triplet
from tasks.tables.parquet import read_completions, read_pairs, read_triplets


def triplets_by_attribute(complete: Path, select: Path, attribute: str | None = None) -> dict[str, tuple[Triplet, ...]]:
    """attribute key -> its triplets, in the order of the file: of one attribute or of all."""
    pairs = read_pairs(complete / "pairs.parquet", attribute)
    completions = read_completions(complete / "completions.parquet", {pair.id for pair in pairs} if attribute else None)
    found: dict[str, list[Triplet]] = {}
    for triplet in read_triplets(select / "triplets.parquet", pairs, completions, others=attribute is not None):
        found.setdefault(triplet.pair.attribute, []).append(triplet)
    return {attribute: tuple(triplets) for attribute, triplets in found.items()}


def plain_answers(complete: Path, attribute: str) -> tuple[tuple[PromptPair, Completion], ...]:
    """The plain completions of an attribute with their pairs: the other side of a difference of means."""
    pairs = {pair.id: pair for pair in read_pairs(complete / "pairs.parquet", attribute)}
    answers = read_completions(complete / "completions.parquet", pairs)
    return tuple((pairs[one.pair], one) for one in answers if one.method == PLAIN)
