"""How much of the activations is kept: of a 9B model all of them are terabytes, and a budget decides.

    keep      bytes on the disk (upper bounds, of every triplet and the longest answers)
    full      tokens of both sides · layers · d · bytes of the dtype
    layers    the sides and the layers that the profile's methods read
    8bit      these · (d + 4) bytes a layer and token
    none      0: distill runs the model on the same tokens

`choose` takes the first that fits. It is settled when a run is planned and stands in settings.yaml as extract.keep and
extract.layers, without the budget: DVC calls extract stale when what is kept is another, not when the budget is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.counts import total
from flows.sections import Model, Profile
from psr.errors import PsrError
from psr.fitting.methods.named import methods_named
from psr.types import INSTRUCTED, PLAIN
from tasks.asking.models import config_of
from tasks.engine.files import read_json
from tasks.tables.activations import KEEPS, Keep, size_of

QUESTION = 16  # tokens of a question, and of what the chat adds, that are recorded beside an answer: some 16
Layers = Mapping[str, tuple[int, int]]  # side -> the first and the last


@dataclass(frozen=True)
class Choice:
    """What is kept. sizes: bytes by option, None where the model's config is not here; layers: of `layers` and `8bit`."""

    keep: Keep | None
    sizes: Mapping[Keep, int] | None
    layers: Layers | None

    @property
    def text(self) -> str:
        """As the plan says it."""
        if self.keep == "none":
            return "no activations are kept"
        size = self.sizes[self.keep] if self.sizes and self.keep else None
        return f"at most {in_words(size)} of activations" + ("" if self.keep in ("full", None) else f", {self.keep}")


def choose(sizes: Mapping[Keep, int], budget: int | None, keep: Keep | None) -> Keep:
    """The first option, in order of faithfulness, that fits `budget` bytes; or `keep`, where that is given and fits.

    Raises PsrError where it does not.
    """
    if keep is None:
        return next(one for one in KEEPS if budget is None or sizes[one] <= budget)
    if budget is not None and sizes[keep] > budget:
        fitting = next(one for one in KEEPS if sizes[one] <= budget)
        raise PsrError(
            "what is to be kept of the activations does not fit the budget", where="extract.keep, extract.budget",
            expected=f"at most {in_words(budget)}", got=f"{keep}: {in_words(sizes[keep])}",
            do=f"Keep {fitting}, leave extract.keep out, or set another budget.",
        )  # fmt: skip
    return keep


def settled(root: Path, settings: Profile, *, dry_run: bool = False) -> Profile:
    """The profile with what it keeps filled in. A dry run leaves it open where the model is not here.

    Raises PsrError as `chosen` does, and for extract.layers, which nobody sets.
    """
    if settings.extract.layers is not None:
        raise PsrError(
            "which layers are kept follows from the methods", where="extract.layers", do="Set extract.keep: layers."
        )
    choice = chosen(root, settings, fetch=not dry_run)
    kept = {"keep": choice.keep, "layers": choice.layers}
    return settings.model_copy(update={"extract": settings.extract.model_copy(update=kept)})


def chosen(root: Path, settings: Profile, *, fetch: bool = False) -> Choice:
    """What the profile keeps, as far as it is known without its model. fetch: the model has to be known, and its config is
    fetched where it is one of the hub.

    Raises PsrError where what is to be kept does not fit, or the budget cannot be held against a model that is not known.
    """
    extract, shape = settings.extract, shape_of(root, settings.model)
    if extract.budget is None and extract.keep in (None, "full", "none"):
        return Choice(extract.keep or "full", shape and {"full": full_bytes(settings, *shape), "none": 0}, None)
    if shape is None and fetch:
        shape = _fetched(root, settings.model)
    if shape is None:
        return Choice(None, None, None)
    layers = layers_read(settings, shape[0])
    sizes = option_bytes(settings, *shape, layers)
    keep = choose(sizes, extract.budget, extract.keep)
    return Choice(keep, sizes, layers if keep in ("layers", "8bit") else None)


def choice_line(root: Path, settings: Profile) -> str:
    """What is kept, and why: the bytes of each option beside the budget, and the room where that is not enough."""
    choice, budget = chosen(root, settings), settings.extract.budget
    against = [f"{keep} {in_words(size)}" for keep, size in (choice.sizes or {}).items()] if budget is not None else []
    against += [f"extract.budget {in_words(budget)}"] if budget is not None else []
    size, free = (choice.sizes or {}).get(choice.keep or "full"), shutil.disk_usage(root).free
    little = f"; {in_words(free)} are free" if size is not None and size > free else ""
    return choice.text + (f" ({', '.join(against)})" if against else "") + little


def layers_read(settings: Profile, n_layers: int) -> dict[str, tuple[int, int]]:
    """side -> the first and the last layer that the profile's methods read of it; without the sides that none reads.

    Raises PsrError for a layer that the model does not have.
    """
    layer = settings.distill.layer
    read: dict[str, tuple[int, int]] = {}
    if layer >= n_layers:
        raise PsrError("the model has no such layer", where="distill.layer", expected=f"0 to {n_layers - 1}", got=layer)
    names = dict.fromkeys(name for one in settings.benchmarks for name in one.methods or settings.methods)
    for method in methods_named(names):
        steered = [layer] if method.method.scope == "S" else range(n_layers)
        own = method.learning.layers_read(steered, n_layers)
        for side in method.learning.reads:
            first, last = read.get(side, (own[0], own[-1]))
            read[side] = (min(first, own[0]), max(last, own[-1]))
    return {side: read[side] for side in (INSTRUCTED, PLAIN) if side in read}


def option_bytes(settings: Profile, n_layers: int, d_model: int, layers: Layers) -> dict[Keep, int]:
    """Bytes on the disk of each option, at most. layers: as `layers_read` gives them."""
    tokens, dtype = _tokens(settings), settings.extract.dtype
    read = {side: last + 1 - first for side, (first, last) in layers.items()}
    return {
        "full": full_bytes(settings, n_layers, d_model),
        "layers": sum(size_of(tokens[side], n, d_model, dtype, "layers") for side, n in read.items()),
        "8bit": sum(size_of(tokens[side], n, d_model, dtype, "8bit") for side, n in read.items()),
        "none": 0,
    }


def full_bytes(settings: Profile, n_layers: int, d_model: int) -> int:
    """Bytes of every layer of both sides, at most."""
    return size_of(sum(_tokens(settings).values()), n_layers, d_model, settings.extract.dtype)


def _tokens(settings: Profile) -> dict[str, int]:
    """side -> recorded tokens, at most: of each triplet, of each plain answer."""
    n, longest = total(settings), settings.sampling.max_new_tokens + QUESTION
    return {INSTRUCTED: n.kept * longest, PLAIN: n.completed // 2 * longest}


def shape_of(root: Path, model: Model) -> tuple[int, int] | None:
    """The number of layers and the width of the model's config; None where it is not on this machine, or says neither."""
    return _shape(config_of(root / model.path, model.path, model.revision) or {})


def _fetched(root: Path, model: Model) -> tuple[int, int]:
    config = None
    if model.revision is not None:
        from psr.lm.hub import snapshot

        config = read_json(snapshot(model.path, model.revision, ["config.json"]) / "config.json")
    shape = _shape(config or {})
    if shape is None:
        raise PsrError(
            "how much room activations take is not known of this model", where=model.path,
            expected="a config.json with its layers and its width",
            do="Set extract.keep to full or none, without extract.budget.",
        )  # fmt: skip
    return shape


def _shape(config: Mapping[str, Any]) -> tuple[int, int] | None:
    text = config.get("text_config") or config  # of a model of pictures and text
    layers = text.get("num_hidden_layers") or text.get("n_layer")
    width = text.get("hidden_size") or text.get("n_embd")
    return (layers, width) if layers and width else None


def in_words(size: int | None) -> str:
    """A size as people say it."""
    if size is None:
        return "an unknown size"
    return f"{size / 1e6:.0f} MB" if size < 10e9 else f"{size / 1e9:,.0f} GB"
