"""Keeping those judged completions that are worth learning from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from psr.answers.selection import means, select
from psr.errors import PsrError
from psr.types import INSTRUCTED, Dropped, Triplet
from tasks.engine.progress import say
from tasks.tables.parquet import (
    read_completions,
    read_judgements,
    read_pairs,
    write_dropped,
    write_triplets,
)

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark


def select_triplets(
    source: Path,
    out: Path,
    benchmarks: Mapping[str, Benchmark],
    *,
    min_trait: float,
    min_coherence: float,
    limit: int | None,
) -> None:
    """Keep the instructed completions of `source` that out/judgements.parquet finds good enough, `limit` an attribute; write
    triplets and dropped.

    benchmarks: by their own name. Raises PsrError, with the counts by reason, for an attribute that has none left.
    """
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet")}
    judgements = read_judgements(out / "judgements.parquet")
    answers = [c for c in read_completions(source / "completions.parquet") if c.method == INSTRUCTED]
    kept: list[Triplet] = []
    dropped: list[Dropped] = []
    for attribute in sorted({pair.attribute for pair in pairs.values()}):
        own = [c for c in answers if pairs[c.pair].attribute == attribute]
        benchmark = benchmarks[attribute.partition("/")[0]]
        trait, coherence = (means(judgements, dimension) for dimension in (benchmark.asked, benchmark.sense))
        good, bad = select(pairs, own, trait, coherence, min_trait=min_trait, min_coherence=min_coherence, limit=limit)
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(Counter(d.reason for d in bad).items())) or "none"
        if not good:
            raise PsrError(
                "no triplet is left to learn from",
                where=attribute,
                got=f"dropped {len(bad)}: {counts}",
                do="Ask more questions, or lower select.min_trait or select.min_coherence.",
            )
        say(f"select {attribute}: {len(good)} triplets kept, dropped: {counts}")
        kept, dropped = [*kept, *good], [*dropped, *bad]
    write_triplets(out / "triplets.parquet", kept)
    write_dropped(out / "dropped.parquet", dropped)
