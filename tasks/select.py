"""Judging what was completed, and keeping what is worth learning from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.errors import PsrError
from psr.judging import Judge
from psr.selection import means, select
from psr.types import INSTRUCTED, Dropped, Triplet
from tasks.answers import judge_once
from tasks.scratch import Scratch
from tasks.tables import (
    read_completions,
    read_judgements,
    read_pairs,
    write_dropped,
    write_judgements,
    write_triplets,
)


@task(cache_policy=NO_CACHE)
def judge_completions(source: Path, judge: Judge, scratch: Scratch, out: Path, label: str) -> None:
    """Judge every completion of the folder `source`; write out/judgements.parquet."""
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet")}
    completions = read_completions(source / "completions.parquet")
    write_judgements(out / "judgements.parquet", judge_once(judge, completions, pairs, scratch, label=label))


@task(cache_policy=NO_CACHE)
def select_triplets(
    source: Path, out: Path, *, min_trait: float, min_coherence: float, limit: int | None
) -> None:
    """Keep the judged instructed completions that are good enough, `limit` an attribute; write triplets and dropped.

    Raises PsrError, with the counts by reason, for an attribute that has none left.
    """
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet")}
    judgements = read_judgements(out / "judgements.parquet")
    trait, coherence = means(judgements, "trait"), means(judgements, "coherence")
    answers = [c for c in read_completions(source / "completions.parquet") if c.method == INSTRUCTED]
    kept: list[Triplet] = []
    dropped: list[Dropped] = []
    for attribute in sorted({pair.attribute for pair in pairs.values()}):
        here = [c for c in answers if pairs[c.pair].attribute == attribute]
        good, bad = select(pairs, here, trait, coherence, min_trait=min_trait, min_coherence=min_coherence, limit=limit)
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(Counter(d.reason for d in bad).items())) or "none"
        if not good:
            raise PsrError("no triplet is left to learn from", where=attribute, got=f"dropped {len(bad)}: {counts}",
                           do="Ask more questions, or lower select.min_trait or select.min_coherence.")
        print(f"select {attribute}: {len(good)} triplets kept, dropped: {counts}", flush=True)
        kept, dropped = [*kept, *good], [*dropped, *bad]
    write_triplets(out / "triplets.parquet", kept)
    write_dropped(out / "dropped.parquet", dropped)
