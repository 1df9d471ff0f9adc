"""Completions to learn from: x' answered for the triplets, x answered for the other side of a difference of means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.answers.pairs import fit_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, PromptPair
from tasks.asking.answers import complete_once
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.gather import part
from tasks.engine.scratch import Scratch
from tasks.tables.parquet import write_completions, write_pairs

if TYPE_CHECKING:
    from psr.answers.completions import Ask


@task(cache_policy=NO_CACHE)
def complete_attribute(
    attribute: Attribute,
    model: ModelPlace,
    scratch: Scratch,
    *,
    questions: int | None,
    instructions: int,
    samples: int,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
) -> Path:
    """Ask the attribute's fitting pairs on both sides. Returns the part: pairs and completions."""
    from psr.answers.sampling import Sampling

    pairs = fit_pairs(attribute, questions, instructions)
    asks = fit_asks(pairs, instructions, samples, seed)

    def write(folder: Path) -> None:
        sampling = Sampling(max_new_tokens, temperature)
        label = f"complete {attribute.key}"
        made = complete_once(open_model(model), asks, sampling, scratch, batch_size=batch_size, label=label)
        write_pairs(folder / "pairs.parquet", pairs, "fit", "fit")
        write_completions(folder / "completions.parquet", made)

    return part(scratch, f"part-{attribute.benchmark}-{attribute.name}", write)


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
