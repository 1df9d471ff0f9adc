"""The activation cache: recorded residual streams as sharded safetensors with an index.

    folder/index.json            model, layers, d_model, dtype, keep, and an entry per (attribute, side)
    folder/NAME-00000.safetensors  whole sequences: values [layer, token, d], or in 8 bits codes [layer, token, d] and
                                   scale [layer, token]; lengths [sequence]

sides: "instructed" is the run on x' y' over the span QR, the targets of MSE; "plain" is the run on the plain prompt with
the model's own plain answers over R, the other side of a difference of means. R is the end of QR, so one cache serves both.

keep: how much of that is stored, the most faithful first.

    full      every layer of both sides, in the dtype
    layers    the layers that the methods read, of the sides that they read: the same modules, in less room
    8bit      these layers with 8 bits a component and a scale for each layer and token (psr/fitting/stores.py)
    none      nothing: whoever fits runs the model on the same tokens
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from psr.errors import PsrError
from psr.types import INSTRUCTED, PLAIN, Completion, PromptPair, Triplet

if TYPE_CHECKING:
    import torch

    from psr.fitting.stores import EightBit
    from psr.lm.models import LanguageModel
    from psr.lm.recording import Targets

Keep = Literal["full", "layers", "8bit", "none"]
KEEPS: tuple[Keep, ...] = get_args(Keep)
INDEX = "index.json"
SPANS = {INSTRUCTED: "QR", PLAIN: "R"}
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
Run = tuple[list[tuple[int, ...]], list[int]]  # token ids, first kept positions


def recording(attribute: str, side: str) -> str:
    """The name of a recording: `persona-pirate-instructed`."""
    return f"{attribute.replace('/', '-')}-{side}"


def instructed_run(lm: LanguageModel, triplets: Sequence[Triplet]) -> Run:
    """What the instructed side of an attribute is recorded on: x' y' of each triplet, from the question on (QR)."""
    from psr.lm.alignment import align

    aligned = [align(lm.tokenizer, t.pair, t.completion.token_ids, "QR") for t in triplets]
    return [a.instructed_ids for a in aligned], [a.instructed_start for a in aligned]


def plain_run(lm: LanguageModel, answers: Sequence[tuple[PromptPair, Completion]]) -> Run:
    """What its plain side is recorded on: x y with the model's own plain answers, from the prompt's last token on (R)."""
    from psr.lm.chats import encode_chat

    prompts = [encode_chat(lm.tokenizer, pair.plain) for pair, _ in answers]
    ids = [(*prompt.ids, *c.token_ids) for prompt, (_, c) in zip(prompts, answers, strict=True)]
    return ids, [prompt.start("R") for prompt in prompts]


def layers_kept(layers: Mapping[str, Sequence[int]] | None, side: str, n_layers: int) -> range:
    """The layers of a side that are recorded. layers: side -> the first and the last, of sides that are; None: all, of both."""
    if layers is None:
        return range(n_layers)
    first, last = layers[side]
    return range(first, last + 1)


def size_of(tokens: int, layers: int, d_model: int, dtype: str, keep: Keep = "full") -> int:
    """Bytes that a recording of so many tokens takes on the disk; headers and indices apart."""
    if keep == "none":
        return 0
    return tokens * layers * (d_model + 4 if keep == "8bit" else d_model * BYTES[dtype])


def held_bytes(folder: Path, name: str) -> int:
    """Bytes that the recording called `name` takes in memory; what is not kept is recorded again for it, in the cache's dtype."""
    index = read_index(folder)
    return sum(
        size_of(entry["tokens"], len(_layers(index, entry)), index["d_model"], index["dtype"],
                "8bit" if index.get("keep") == "8bit" else "full")
        for entry in index["entries"] if entry["name"] == name
    )  # fmt: skip


def entry_of(
    name: str, side: str, lengths: Sequence[int], layers: Sequence[int], files: Sequence[str]
) -> dict[str, Any]:
    """What the index says of a recording. lengths: kept tokens of each sequence."""
    return {
        "name": name, "span": SPANS[side], "files": list(files), "sequences": len(lengths), "tokens": sum(lengths),
        "layers": list(layers),
    }  # fmt: skip


def write_shards(store: Targets | EightBit, folder: Path, name: str, shard_bytes: int, first: int = 0) -> list[str]:
    """Write one recording, or a part of one, as shards of at most `shard_bytes` (a longer sequence has a shard of its own).

    first: the number of the first shard. Returns the files' names. Each is written aside and moved into place.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors, files = _tensors(store), []
    per_token = sum(tensor[:, :1].numel() * tensor.element_size() for tensor in tensors.values())
    for number, (start, end) in enumerate(cuts(store.offsets, per_token, shard_bytes), first):
        file = folder / f"{name}-{number:05d}.safetensors"
        tokens = slice(store.offsets[start], store.offsets[end])
        part = {key: tensor[:, tokens].contiguous() for key, tensor in tensors.items()}
        part["lengths"] = torch.tensor([store.offsets[i + 1] - store.offsets[i] for i in range(start, end)])
        save_file(part, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
        files.append(file.name)
    return files


def _tensors(store: Targets | EightBit) -> dict[str, torch.Tensor]:
    from psr.lm.recording import Targets

    return {"values": store.values} if isinstance(store, Targets) else {"codes": store.codes, "scale": store.scale}


def cuts(offsets: Sequence[int], per_token: int, most: int) -> list[tuple[int, int]]:
    """Ranges of whole sequences that take at most `most` bytes each, at `per_token` bytes a token; one sequence at least.

    offsets: sequence i owns tokens offsets[i]:offsets[i + 1].
    """
    ranges, first = [], 0
    for i in range(len(offsets) - 1):
        if i > first and (offsets[i + 1] - offsets[first]) * per_token > most:
            ranges.append((first, i))
            first = i
    return [*ranges, (first, len(offsets) - 1)]


def write_index(folder: Path, entries: Sequence[dict[str, Any]], **facts: Any) -> None:
    """Write the index last: a cache without one was not finished."""
    text = json.dumps({**facts, "entries": sorted(entries, key=lambda entry: entry["name"])}, indent=1, sort_keys=True)
    aside = folder / (INDEX + ".part")
    aside.write_text(text + "\n")
    aside.replace(folder / INDEX)


def read_targets(folder: Path, name: str) -> Targets | EightBit | None:
    """The recording called `name`; None where the cache keeps none. Raises PsrError for a cache that is unfinished, damaged
    or lacks it."""
    import torch

    from psr.fitting.stores import EightBit
    from psr.lm.recording import Targets

    index = read_index(folder)
    entry = next((entry for entry in index["entries"] if entry["name"] == name), None)
    if entry is None:
        raise PsrError(
            "the activation cache lacks a recording", where=folder, expected=name, do="Run the extract stage again."
        )
    keep = index.get("keep", "full")
    if keep == "none":
        return None
    first, *others = ("codes", "scale") if keep == "8bit" else ("values",)
    shards = [_read_shard(folder / file, (first, *others, "lengths")) for file in entry["files"]]
    offsets = (0, *torch.cat([shard["lengths"] for shard in shards]).cumsum(0).tolist())
    values = torch.cat([shard[first] for shard in shards], dim=1)
    if values.shape[1] != offsets[-1] or offsets[-1] != entry["tokens"]:
        raise PsrError(
            "the activation cache does not match its index",
            where=folder / INDEX,
            expected=f"{entry['tokens']} tokens of {name}",
            got=values.shape[1],
            do="Run the extract stage again.",
        )
    about = offsets, _layers(index, entry), index["model"], entry["span"]
    if others:
        return EightBit(values, torch.cat([shard["scale"] for shard in shards], dim=1), *about)
    return Targets(values, *about)


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


def _layers(index: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(
        entry["layers"] if "layers" in entry else index["layers"]
    )  # caches of earlier releases have all layers, and say so once


def _read_shard(file: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        return {name: tensors[name] for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise PsrError(
            "a shard of the activation cache is missing or damaged",
            where=file,
            got=f"{type(error).__name__}: {error}",
            do="Run `dvc checkout`, or the extract stage again.",
        ) from error
