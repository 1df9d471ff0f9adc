"""Keeping those judged completions that are worth learning from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from psr.answers.selection import means, select
from psr.errors import PsrError
from psr.judges.dimensions import asked_and_sense
from psr.types import INSTRUCTED, Dropped, Triplet
from tasks.engine.progress import say
from tasks.tables.parquet import (
    read_completions,
    read_judgements,
    read_pairs,
    write_dropped,
    write_triplets,
)


def select_triplets(source: Path, out: Path, *, min_trait: float, min_coherence: float, limit: int | None) -> None:
    """Keep the instructed completions of `source` that out/judgements.parquet finds good enough, `limit` an attribute; write
    triplets and dropped.

    Raises PsrError, with the counts by reason, for an attribute that has none left.
    """
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet")}
    judgements = read_judgements(out / "judgements.parquet")
    answers = [c for c in read_completions(source / "completions.parquet") if c.method == INSTRUCTED]
    kept: list[Triplet] = []
    dropped: list[Dropped] = []
    for attribute in sorted({pair.attribute for pair in pairs.values()}):
        here = [c for c in answers if pairs[c.pair].attribute == attribute]
        trait, coherence = (means(judgements, dimension) for dimension in asked_and_sense(attribute))
        good, bad = select(pairs, here, trait, coherence, min_trait=min_trait, min_coherence=min_coherence, limit=limit)
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
