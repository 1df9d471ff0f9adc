"""Activation extraction: the residual streams that modules are fitted to, as a cache under DVC.

How much of them is kept, `keep`, was chosen when the run was planned (flows/storage.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from psr.types import INSTRUCTED
from tasks.asking.models import ModelSettings, open_model
from tasks.engine.cells import SUMS, Cells, copy
from tasks.engine.disk import check_room
from tasks.engine.files import read_json, write_json
from tasks.engine.progress import progress, say
from tasks.tables.activations import (
    INDEX,
    SPANS,
    Keep,
    Run,
    cuts,
    entry_of,
    instructed_run,
    layers_kept,
    plain_run,
    recording,
    size_of,
    write_index,
    write_shards,
)
from tasks.tables.triplets import plain_answers, triplets_by_attribute

if TYPE_CHECKING:
    from psr.fitting.stores import EightBit
    from psr.lm.models import LanguageModel
    from psr.lm.recording import Targets

ENTRY = "entry.json"
MEGABYTE = 1_000_000
HELD = 4_000_000_000  # bytes that are recorded at a time: a longer recording is written part by part


@dataclass(frozen=True)
class Recording:
    """How activations are recorded and kept. layers: side -> the first and the last; None: all, of both sides."""

    dtype: str
    shard_mb: float
    batch_size: int
    keep: Keep
    layers: Mapping[str, tuple[int, int]] | None

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that are recorded."""
        return tuple(side for side in SPANS if self.layers is None or side in self.layers)

    def bytes_of(self, side: str, run: Run, lm: LanguageModel) -> int:
        """Bytes that a side takes on the disk."""
        layers = len(layers_kept(self.layers, side, lm.n_layers))
        return size_of(sum(_lengths(run)), layers, lm.d_model, self.dtype, self.keep)

    def key(self, side: str, name: str, run: Run, model: ModelSettings) -> tuple[object, ...]:
        """What its cell is of; where every layer is kept it is the same however that was chosen."""
        n_layers = open_model(model).n_layers
        layers = layers_kept(self.layers, side, n_layers)
        less = () if len(layers) == n_layers and self.keep in ("full", "layers") else (self.keep, *layers)
        return (model.reads, name, SPANS[side], self.dtype, self.shard_mb, *run, *less)


def check_disk(complete: Path, select: Path, model: ModelSettings, cells: Cells, how: Recording, out: Path) -> None:
    """Raise PsrError, before anything is recorded, where the disk has no room for what is still to be kept."""
    lm, needed = open_model(model), 0
    for attribute, side, run in _runs(lm, complete, select, how.sides):
        if not cells.exists("extract", how.key(side, recording(attribute, side), run, model)):
            needed += how.bytes_of(side, run, lm)
    do = "Make room, or have less kept: extract.budget (bytes), extract.keep (layers, 8bit or none)."
    check_room((cells.folder, out), needed, "activations", do)


def extract_side(
    attribute: str, side: str, complete: Path, select: Path, model: ModelSettings, cells: Cells, how: Recording
) -> Path:
    """Record what is kept of one side of an attribute: x' y' of each triplet (span QR), or plain answers (R); say the size first.

    Returns the cell: shards and the index entry.
    """
    lm = open_model(model)
    run = (
        instructed_run(lm, triplets_by_attribute(complete, select, attribute)[attribute])
        if side == INSTRUCTED
        else plain_run(lm, plain_answers(complete, attribute))
    )
    name, layers = recording(attribute, side), layers_kept(how.layers, side, lm.n_layers)

    def write(folder: Path) -> None:
        files: list[str] = []
        if how.keep != "none":
            size = how.bytes_of(side, run, lm) / MEGABYTE
            say(
                f"extract {attribute} {side}: {sum(_lengths(run))} tokens × {len(layers)} layers × {lm.d_model} in "
                f"{'8 bits' if how.keep == '8bit' else how.dtype}: {size:.1f} MB"
            )
            with progress(f"extract {attribute} {side}", len(run[0]), "sequences") as advance:
                for part in _recorded(lm, run, side, layers, how, advance):
                    files += write_shards(part, folder, name, int(how.shard_mb * MEGABYTE), len(files))
        write_json(folder / ENTRY, entry_of(name, side, _lengths(run), layers, files))

    return cells.keep("extract", how.key(side, name, run, model), write)


def gather_recordings(cells: Sequence[Path], model: ModelSettings, out: Path, how: Recording) -> None:
    """Every cell's shards beside one index."""
    lm = open_model(model)
    for file in (file for cell in cells for file in sorted(cell.iterdir()) if file.name not in (ENTRY, SUMS, INDEX)):
        copy(file, out / file.name)
    entries = [read_json(cell / ENTRY) for cell in cells]
    write_index(out, entries, model=lm.fingerprint, d_model=lm.d_model, dtype=how.dtype, keep=how.keep)


def _recorded(
    lm: LanguageModel, run: Run, side: str, layers: range, how: Recording, advance: Callable[[int], None]
) -> Iterator[Targets | EightBit]:
    """The recording in parts of whole sequences that fit HELD bytes each; most have one."""
    from psr.fitting.stores import in_eight_bits
    from psr.lm.devices import DTYPES
    from psr.lm.recording import record

    sequences, starts = run
    per_token = size_of(1, len(layers), lm.d_model, how.dtype)
    for first, end in cuts([0, *accumulate(_lengths(run))], per_token, HELD):
        targets = record(
            lm, sequences[first:end], starts[first:end], layers, span=SPANS[side], batch_size=how.batch_size,
            dtype=DTYPES[how.dtype], progress=advance,
        )  # fmt: skip
        yield in_eight_bits(targets) if how.keep == "8bit" else targets


def _runs(lm: LanguageModel, complete: Path, select: Path, sides: Sequence[str]) -> Iterator[tuple[str, str, Run]]:
    for attribute, triplets in triplets_by_attribute(complete, select).items():
        for side in sides:
            run = (
                instructed_run(lm, triplets)
                if side == INSTRUCTED
                else plain_run(lm, plain_answers(complete, attribute))
            )
            yield attribute, side, run


def _lengths(run: Run) -> list[int]:
    """Kept tokens of each sequence."""
    return [len(ids) - start for ids, start in zip(*run, strict=True)]
