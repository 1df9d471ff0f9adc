"""A steering module: what was learned, for which model, and where it acts. Saved as a folder, loaded bit-exact.

    folder/adapter_model.safetensors   z [layer, d], and for PSR w [layer, d], b [layer]; fp32
    folder/adapter_config.json         what it adds and where, the model it is for, at which strength, and where it came from

The files have the names that PEFT gives its own, and so do the keys of the config where PEFT has them. Nothing is unpickled.

    format                              psr-2; psr-1, which had neither a base model nor a strength of its own, loads as before
    form, equation, span, d_model       what is added to which tokens: psr/steering/forms.py
    hook, layers                        where: after these decoder blocks, counted from 0
    base_model_name_or_path, revision   the model it was fitted on: its name on the hub and commit, or its folder's name
    fingerprint                         of that model and its tokenizer, which decides
    recommended_alpha, safe_alpha       the strength to use, and from where to where answers make sense; null: not measured
    origin                              attribute, method, settings, figures
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from psr.errors import PsrError
from psr.lm.fingerprints import akin
from psr.lm.hub import HUB_ID, check_name, snapshot
from psr.steering.forms import form_named
from psr.types import UNNAMED, ModelName, Span

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HOOK = "residual stream after each decoder block of `layers`"
_FORMAT, _FIRST = "psr-2", "psr-1"
_STRENGTHS = ("recommended_alpha", "safe_alpha")  # of the origin; in the file they stand beside it


@dataclass(frozen=True, eq=False)
class SteeringModule:
    """What was learned: a direction z, and for PSR a gate (w, b), for each layer (Heyman & Vandeputte 2026, Section 3).

    id: names the module in completions. form: "Const", "PSR", "Proj", or with a rank "PSR4", "LoReFT4" (psr.steering.forms
    has the formulas). layers: decoder blocks, 0-based. span: "R" or "QR". model: fingerprint of the model and tokenizer
    it was fitted on. tensors[name]: [len(layers), *shape], fp32 on CPU. origin: JSON-able: attribute, method, fit
    settings, ids of what it was made from. base: what that model is called, for people.
    Raises PsrError when the tensors do not fit the form or are not finite.

        >>> module.form, module.span, module.tensors["z"].shape == (lm.n_layers, lm.d_model)
        ('PSR', 'QR', True)
    """

    id: str
    form: str
    layers: tuple[int, ...]
    span: Span
    model: str
    tensors: Mapping[str, Tensor]
    origin: Mapping[str, Any] = field(default_factory=dict)
    base: ModelName = UNNAMED

    def __post_init__(self) -> None:
        shapes = form_named(self.form).shapes(self.d_model)
        got = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        expected = {name: (len(self.layers), *shape) for name, shape in shapes.items()}
        if got != expected:
            raise PsrError("a steering module's tensors do not fit its form", where=self.id, expected=expected, got=got)
        for name, tensor in self.tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise PsrError(
                    "a steering module holds values that are not finite",
                    where=f"{self.id}, {name}",
                    do="Fit it again with a lower learning rate.",
                )

    @property
    def d_model(self) -> int:
        """Width of the residual stream it steers."""
        return int(self.tensors["z"].shape[-1])

    @property
    def recommended_alpha(self) -> float:
        """The strength that `psr.distill` chose, kept in the origin; 1.0 for a module without one."""
        return check_alpha(self.origin.get("recommended_alpha", 1.0))

    @property
    def equation(self) -> str:
        """What steering does at one position, as a formula."""
        return form_named(self.form).equation

    def _repr_html_(self) -> str:
        """In a notebook: what it is, at which strength, its vectors' lengths."""
        from psr.show.module import module_html
        from psr.show.style import widget

        return widget(module_html(self))


def check_alpha(alpha: float) -> float:
    """`alpha` as a float. Raises PsrError when it is no number, nan or infinite."""
    try:
        number = float(alpha)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PsrError("alpha is not a finite number", expected="a number such as 1.0", got=repr(alpha))
    return number


def check_model(module: SteeringModule, fingerprint: str, d_model: int, n_layers: int) -> None:
    """Raise PsrError, with the reason, unless `module` was fitted on the model with this fingerprint, in whatever dtype."""
    if module.d_model != d_model:
        raise PsrError(
            "this module was fitted on a model of another width",
            where=module.id,
            expected=f"d_model {module.d_model}",
            got=d_model,
            do="Load the model it was fitted on.",
        )
    if max(module.layers) >= n_layers:
        raise PsrError(
            "this module steers a layer that the model does not have",
            where=module.id,
            expected=f"more than {max(module.layers)} layers",
            got=n_layers,
            do="Load the model it was fitted on.",
        )
    if not akin(module.model, fingerprint):
        raise PsrError(
            "this module was fitted on another model or tokenizer",
            where=module.id,
            expected=f"fingerprint {module.model}",
            got=fingerprint,
            do="Load the model it was fitted on, or fit it again.",
        )


def save_module(module: SteeringModule, folder: Path | str) -> Path:
    """Write `module` into `folder`, which is made if it is missing. Returns the folder.

    Each file is written aside and then moved, so that a reader finds a whole file or none.

        >>> folder = psr.save_module(module, "my-module")
        >>> sorted(file.name for file in folder.iterdir())
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "PSR",
        "format": _FORMAT,
        "id": module.id,
        "form": module.form,
        "equation": module.equation,
        "hook": HOOK,
        "layers": list(module.layers),
        "span": module.span,
        "d_model": module.d_model,
        "base_model_name_or_path": module.base.name,
        "revision": module.base.revision,
        "fingerprint": module.model,
        **{name: module.origin.get(name) for name in _STRENGTHS},
        "origin": {name: value for name, value in module.origin.items() if name not in _STRENGTHS},
    }
    aside = folder / (WEIGHTS + ".part")
    save_file({name: tensor.contiguous() for name, tensor in module.tensors.items()}, aside)
    os.replace(aside, folder / WEIGHTS)
    aside = folder / (CONFIG + ".part")
    aside.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, folder / CONFIG)
    return folder


def load_module(folder: Path | str, *, revision: str | None = None) -> SteeringModule:
    """The module that `save_module` wrote into `folder`, bit for bit, or one of the Hugging Face hub by its name.

    revision: of a module of the hub, and required there: the commit, 40 hex digits, as for a model. Its two files are fetched
    once, into the hub's cache, and never with HF_HUB_OFFLINE set.
    Raises PsrError when the folder is missing, damaged or of another format, and when the hub does not give the module.

        >>> psr.load_module(psr.save_module(module, "my-module")).id
        'pirate'
    """
    folder = _located(str(folder), revision)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors and json raise types of their own
        raise PsrError(
            "a steering module's file is damaged",
            where=folder,
            got=f"{type(error).__name__}: {error}",
            do="Fetch or fit it again.",
        ) from error
    return _build(config, tensors, folder)


def _located(name: str, revision: str | None) -> Path:
    """The folder with the module's two files."""
    folder, hub = Path(name), ""
    if revision is not None:
        if folder.exists():
            raise PsrError("only a module of the hub has a revision", where=name, got=revision, do="Leave it out.")
        check_name(name, revision)
        folder = snapshot(name, revision, (CONFIG, WEIGHTS), "module")
    elif not folder.exists() and HUB_ID.fullmatch(name):
        hub = " For a module of the hub, give the commit that is meant as its revision."
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise PsrError(
                "not a steering module",
                where=name,
                expected=f"{CONFIG} and {WEIGHTS}",
                got=f"no {file}",
                do=f"Give the folder that `save_module` wrote.{hub}",
            )
    return folder


def _build(config: Any, tensors: dict[str, Tensor], folder: Path) -> SteeringModule:
    version = config.get("format") if isinstance(config, dict) else None
    if version not in (_FORMAT, _FIRST):
        raise PsrError(
            "a steering module of an unknown format",
            where=folder,
            expected=f"{_FORMAT} or {_FIRST}",
            got=repr(version),
            do="Take the release of psr that wrote it, or a newer one.",
        )
    try:
        if config["span"] not in get_args(Span):
            raise KeyError(f"span {config['span']!r}")
        module = SteeringModule(
            id=config["id"],
            form=config["form"],
            layers=tuple(config["layers"]),
            span=config["span"],
            model=config["model" if version == _FIRST else "fingerprint"],
            tensors=tensors,
            origin=config["origin"],
        )
        return module if version == _FIRST else _complete(module, config)
    except (KeyError, TypeError, AttributeError) as error:
        raise PsrError(
            "a steering module's config is incomplete",
            where=folder / CONFIG,
            got=f"missing or wrong: {error}",
            do="Fetch or fit it again.",
        ) from error


def _complete(module: SteeringModule, config: dict[str, Any]) -> SteeringModule:
    """With what the second format has beside the first."""
    if config["hook"] != HOOK:
        raise KeyError(f"hook {config['hook']!r}")
    strengths = {name: config[name] for name in _STRENGTHS if config[name] is not None}
    base = ModelName(config["base_model_name_or_path"], config["revision"])
    return replace(module, origin={**module.origin, **strengths}, base=base)
