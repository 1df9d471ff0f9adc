"""Activation extraction: the residual streams that modules are fitted to, as a cache under DVC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.asking.models import ModelSettings, open_model
from tasks.engine.cells import SUMS, Cells, copy
from tasks.engine.files import read_json, write_json
from tasks.engine.progress import progress, say
from tasks.tables.activations import INDEX, recording, size_of, write_index, write_shards
from tasks.tables.triplets import plain_answers, triplets_by_attribute

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

ENTRY = "entry.json"
MEGABYTE = 1_000_000
Run = tuple[list[tuple[int, ...]], list[int]]  # token ids, first kept positions


def extract_side(
    attribute: str,
    side: str,
    complete: Path,
    select: Path,
    model: ModelSettings,
    cells: Cells,
    dtype: str,
    shard_mb: float,
    batch_size: int,
) -> Path:
    """Record every layer on the instructed side of each triplet (span QR) or on plain answers (R); say the size first.

    Returns the cell: shards and the index entry.
    """
    from psr.lm.devices import DTYPES
    from psr.lm.recording import record

    lm = open_model(model)
    sequences, starts = (
        _instructed(lm, attribute, complete, select) if side == "instructed" else _plain(lm, attribute, complete)
    )
    name, span = recording(attribute, side), "QR" if side == "instructed" else "R"

    def write(folder: Path) -> None:
        tokens = sum(len(ids) - start for ids, start in zip(sequences, starts, strict=True))
        size = size_of(tokens, lm.n_layers, lm.d_model, DTYPES[dtype]) / MEGABYTE
        say(
            f"extract {attribute} {side}: {tokens} tokens × {lm.n_layers} layers × {lm.d_model} in {dtype}: {size:.1f} MB"
        )
        with progress(f"extract {attribute} {side}", len(sequences), "sequences") as advance:
            targets = record(
                lm, sequences, starts, range(lm.n_layers), span=span, batch_size=batch_size, dtype=DTYPES[dtype],
                progress=advance,
            )  # fmt: skip
        write_json(folder / ENTRY, write_shards(targets, folder, name, int(shard_mb * MEGABYTE)))

    return cells.keep("extract", (model.reads, name, span, dtype, shard_mb, sequences, starts), write)


def gather_recordings(cells: Sequence[Path], model: ModelSettings, out: Path, dtype: str) -> None:
    """Every cell's shards beside one index."""
    lm = open_model(model)
    for file in (file for cell in cells for file in sorted(cell.iterdir()) if file.name not in (ENTRY, SUMS, INDEX)):
        copy(file, out / file.name)
    entries = [read_json(cell / ENTRY) for cell in cells]
    write_index(out, entries, model=lm.fingerprint, layers=list(range(lm.n_layers)), d_model=lm.d_model, dtype=dtype)


def _instructed(lm: LanguageModel, attribute: str, complete: Path, select: Path) -> Run:
    from psr.lm.alignment import align

    triplets = triplets_by_attribute(complete, select, attribute)[attribute]
    aligned = [align(lm.tokenizer, t.pair, t.completion.token_ids, "QR") for t in triplets]
    return [a.instructed_ids for a in aligned], [a.instructed_start for a in aligned]


def _plain(lm: LanguageModel, attribute: str, complete: Path) -> Run:
    from psr.lm.chats import encode_chat

    answers = plain_answers(complete, attribute)
    prompts = [encode_chat(lm.tokenizer, pair.plain) for pair, _ in answers]
    ids = [(*prompt.ids, *c.token_ids) for prompt, (_, c) in zip(prompts, answers, strict=True)]
    return ids, [prompt.start("R") for prompt in prompts]
