"""Judging what was completed, and keeping what is worth learning from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.answers.selection import means, select
from psr.errors import PsrError
from psr.judges.dimensions import asked_and_sense
from psr.judges.judging import Judge
from psr.types import INSTRUCTED, Dropped, Judgement, Triplet
from tasks.asking.answers import judge_once
from tasks.engine.scratch import Scratch
from tasks.tables.parquet import (
    read_completions,
    read_judgements,
    read_pairs,
    write_dropped,
    write_judgements,
    write_triplets,
)


@task(cache_policy=NO_CACHE)
def judge_completions(source: Path, judges: Mapping[str, Judge], scratch: Scratch, out: Path, label: str) -> None:
    """Judge every completion of the folder `source`, each by its benchmark's judge; write out/judgements.parquet."""
    pairs = {pair.id: pair for pair in read_pairs(source / "pairs.parquet")}
    completions = read_completions(source / "completions.parquet")
    made: list[Judgement] = []
    for benchmark, judge in judges.items():
        here = [c for c in completions if pairs[c.pair].attribute.partition("/")[0] == benchmark]
        told = label if len(judges) == 1 else f"{label} {benchmark}"
        made += judge_once(judge, here, pairs, scratch.within(benchmark), label=told)
    write_judgements(out / "judgements.parquet", made)


@task(cache_policy=NO_CACHE)
def select_triplets(source: Path, out: Path, *, min_trait: float, min_coherence: float, limit: int | None) -> None:
    """Keep the judged instructed completions that are good enough, `limit` an attribute; write triplets and dropped.

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
        print(f"select {attribute}: {len(good)} triplets kept, dropped: {counts}", flush=True)
        kept, dropped = [*kept, *good], [*dropped, *bad]
    write_triplets(out / "triplets.parquet", kept)
    write_dropped(out / "dropped.parquet", dropped)
