"""The activation cache: recorded residual streams as sharded safetensors with an index.

    folder/index.json            model, layers, d_model, dtype, and an entry per (attribute, side)
    folder/NAME-00000.safetensors  values [layer, token, d] of whole sequences, lengths [sequence]

sides: "instructed" is the run on x' y' over the span QR, the targets of MSE; "plain" is the run on the plain prompt with
the model's own plain answers over R, the other side of a difference of means. R is the end of QR, so one cache serves both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError

if TYPE_CHECKING:
    import torch

    from psr.lm.recording import Targets

INDEX = "index.json"


def recording(attribute: str, side: str) -> str:
    """The name of a recording: `persona-pirate-instructed`."""
    return f"{attribute.replace('/', '-')}-{side}"


def size_of(tokens: int, layers: int, d_model: int, dtype: torch.dtype) -> int:
    """Bytes that a recording of so many tokens takes."""
    return tokens * layers * d_model * dtype.itemsize


def recorded_bytes(folder: Path, name: str) -> int:
    """Bytes of the recording called `name`."""
    entries = [entry for entry in read_index(folder)["entries"] if entry["name"] == name]
    return sum((folder / file).stat().st_size for entry in entries for file in entry["files"])


def write_shards(targets: Targets, folder: Path, name: str, shard_bytes: int) -> dict[str, Any]:
    """Write one recording as shards of at most `shard_bytes` (a longer sequence has a shard of its own).

    Returns the index entry. Each file is written aside and moved into place.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (first, last) in enumerate(_cuts(targets, shard_bytes)):
        file = folder / f"{name}-{number:05d}.safetensors"
        values = targets.values[:, targets.offsets[first] : targets.offsets[last]].contiguous()
        lengths = torch.tensor([targets.offsets[i + 1] - targets.offsets[i] for i in range(first, last)])
        save_file({"values": values, "lengths": lengths}, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
        files.append(file.name)
    return {
        "name": name,
        "span": targets.span,
        "files": files,
        "sequences": len(targets),
        "tokens": targets.offsets[-1],
    }


def _cuts(targets: Targets, shard_bytes: int) -> list[tuple[int, int]]:
    """Ranges of whole sequences that fit a shard each."""
    per_token = targets.values[:, :1].numel() * targets.values.element_size()
    cuts, first = [], 0
    for i in range(len(targets)):
        if i > first and (targets.offsets[i + 1] - targets.offsets[first]) * per_token > shard_bytes:
            cuts.append((first, i))
            first = i
    return [*cuts, (first, len(targets))]


def write_index(folder: Path, entries: Sequence[dict[str, Any]], **facts: Any) -> None:
    """Write the index last: a cache without one was not finished."""
    text = json.dumps({**facts, "entries": sorted(entries, key=lambda entry: entry["name"])}, indent=1, sort_keys=True)
    aside = folder / (INDEX + ".part")
    aside.write_text(text + "\n")
    aside.replace(folder / INDEX)


def read_targets(folder: Path, name: str) -> Targets:
    """The recording called `name`. Raises PsrError for a cache that is unfinished, damaged or lacks it."""
    import torch

    from psr.lm.recording import Targets

    index = read_index(folder)
    entry = next((entry for entry in index["entries"] if entry["name"] == name), None)
    if entry is None:
        raise PsrError(
            "the activation cache lacks a recording", where=folder, expected=name, do="Run the extract stage again."
        )
    shards = [_read_shard(folder / file) for file in entry["files"]]
    offsets = [0, *torch.cat([lengths for _, lengths in shards]).cumsum(0).tolist()]
    values = torch.cat([values for values, _ in shards], dim=1)
    if values.shape[1] != offsets[-1] or offsets[-1] != entry["tokens"]:
        raise PsrError(
            "the activation cache does not match its index",
            where=folder / INDEX,
            expected=f"{entry['tokens']} tokens of {name}",
            got=values.shape[1],
            do="Run the extract stage again.",
        )
    return Targets(values, tuple(offsets), tuple(index["layers"]), index["model"], entry["span"])


def read_index(folder: Path) -> dict[str, Any]:
    """What the cache says of itself. Raises PsrError where there is none."""
    try:
        return json.loads((folder / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise PsrError(
            "the activation cache has no readable index",
            where=folder / INDEX,
            got=type(error).__name__,
            do="Run the extract stage again.",
        ) from error


def _read_shard(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        return tensors["values"], tensors["lengths"]
    except (OSError, SafetensorError, KeyError) as error:
        raise PsrError(
            "a shard of the activation cache is missing or damaged",
            where=file,
            got=f"{type(error).__name__}: {error}",
            do="Run `dvc checkout`, or the extract stage again.",
        ) from error
