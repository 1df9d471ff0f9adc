"""The speed of recording activations at all layers, against forwards that keep nothing."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from psr.fitting.methods import parse_method
from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import ratio

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.studies.bench.material import Material

TRIPLETS, BATCH = 64, 32


def recording(material: Material) -> list[Figure]:
    """The instructed runs of the triplets recorded over QR, kept in memory, against the same batches run and forgotten."""
    from psr.lm.recording import record

    lm = material.lm
    tokens = [example.tokens for example in material.examples(parse_method("a-psr-mse-qr"), TRIPLETS)]
    sequences, starts = [t.instructed_ids for t in tokens], [t.instructed_start for t in tokens]
    kept = partial(record, lm, sequences, starts, range(lm.n_layers), span="QR", batch_size=BATCH)
    recorded, alone = material.seconds([kept, partial(_forwards, material, _padded(material, sequences))])
    count = sum(map(len, sequences))
    note = f"{count / median(recorded):.0f} tokens/s, {lm.n_layers} layers of {lm.d_model}, batch {BATCH}"
    return [
        Figure(
            "record",
            "recording all layers: tokens/s",
            "the same batches, a plain forward without head: tokens/s",
            ratio(alone, recorded),
            Goal(0.9),
            note,
        )
    ]


def _padded(material: Material, sequences: list[tuple[int, ...]]) -> list[tuple[Tensor, Tensor]]:
    """The batches that `record` makes: alike lengths together, padded on the right."""
    from psr.lm.padding import pad

    ordered = sorted(sequences, key=len)
    return [
        pad(ordered[at : at + BATCH], material.lm.pad_id, side="right", device=material.lm.device)
        for at in range(0, len(ordered), BATCH)
    ]


def _forwards(material: Material, batches: list[tuple[Tensor, Tensor]]) -> None:
    import torch

    with torch.inference_mode():
        for ids, attention in batches:
            material.lm.base(input_ids=ids, attention_mask=attention, use_cache=False)
