"""Activation extraction: the residual streams that modules are fitted to, as a cache under DVC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.asking.models import ModelPlace, open_model
from tasks.engine.progress import progress
from tasks.tables.activations import size_of, write_index, write_shards
from tasks.tables.triplets import plain_answers, triplets_by_attribute

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

Runs = dict[tuple[str, str], tuple[list[tuple[int, ...]], list[int], str]]
MEGABYTE = 1_000_000


@task(cache_policy=NO_CACHE)
def extract_activations(
    complete: Path, select: Path, model: ModelPlace, out: Path, *, dtype: str, shard_mb: float, batch_size: int
) -> None:
    """Record every layer on the instructed side of each triplet (QR) and on plain answers (R); print the size first."""
    from psr.lm.loading import DTYPES
    from psr.lm.recording import record

    lm = open_model(model)
    runs = runs_to_record(lm, complete, select)
    tokens = sum(
        len(ids) - start for sequences, starts, _ in runs.values() for ids, start in zip(sequences, starts, strict=True)
    )
    size = size_of(tokens, lm.n_layers, lm.d_model, DTYPES[dtype])
    print(
        f"extract: {tokens} tokens × {lm.n_layers} layers × {lm.d_model} in {dtype}: {size / MEGABYTE:.1f} MB",
        flush=True,
    )
    entries: list[dict[str, Any]] = []
    for (attribute, side), (sequences, starts, span) in runs.items():
        with progress(f"extract {attribute} {side}", len(sequences), "sequences") as advance:
            targets = record(
                lm,
                sequences,
                starts,
                range(lm.n_layers),
                span=span,
                batch_size=batch_size,
                dtype=DTYPES[dtype],
                progress=advance,
            )
        entries.append(write_shards(targets, out, recording(attribute, side), int(shard_mb * MEGABYTE)))
    write_index(out, entries, model=lm.fingerprint, layers=list(range(lm.n_layers)), d_model=lm.d_model, dtype=dtype)


def recording(attribute: str, side: str) -> str:
    """The name of a recording in the cache: `persona-pirate-instructed`."""
    return f"{attribute.replace('/', '-')}-{side}"


def runs_to_record(lm: LanguageModel, complete: Path, select: Path) -> Runs:
    """(attribute, side) -> token ids, first kept positions, span."""
    from psr.lm.alignment import align
    from psr.lm.chats import encode_chat

    runs: Runs = {}
    for attribute, triplets in triplets_by_attribute(complete, select).items():
        aligned = [align(lm.tokenizer, t.pair, t.completion.token_ids, "QR") for t in triplets]
        runs[attribute, "instructed"] = (
            [a.instructed_ids for a in aligned],
            [a.instructed_start for a in aligned],
            "QR",
        )
    for attribute, answers in plain_answers(complete).items():
        prompts = [encode_chat(lm.tokenizer, pair.plain) for pair, _ in answers]
        ids = [(*prompt.ids, *c.token_ids) for prompt, (_, c) in zip(prompts, answers, strict=True)]
        runs[attribute, "plain"] = (ids, [prompt.start("R") for prompt in prompts], "R")
    return runs
