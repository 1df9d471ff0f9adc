"""What LoRA or full fine-tuning learned: weights by name, for which model. Saved as a folder, loaded bit-exact.

folder/adapter_model.safetensors   LoRA's A and B, or every fine-tuned weight
folder/adapter_config.json         form, fingerprint of model and tokenizer, origin
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from psr.errors import PsrError
from psr.steering.module import CONFIG, WEIGHTS

_FORMAT = "psr-adapter-1"
RANK = 8  # of "LoRA" without a number: peft's own default


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changed weights. form: "LoRA8" or "Full"; tensors: LoRA's A and B by name, or the fine-tuned weights θ*, on CPU.

    `model` is the fingerprint of the model it was fitted on; `id` and `origin` as in SteeringModule.
    """

    id: str
    form: str
    model: str
    tensors: Mapping[str, Tensor]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """LoRA's rank; 0 for full fine-tuning."""
        return int(self.form[4:] or RANK) if self.form.startswith("LoRA") else 0

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise PsrError(
                    "an adapter holds values that are not finite",
                    where=f"{self.id}, {name}",
                    do="Fit it again with a lower learning rate.",
                )


def save_adapter(adapter: Adapter, folder: Path | str) -> Path:
    """Write `adapter` into `folder` (made if missing), each file aside and then moved into place. Returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": _FORMAT,
        "id": adapter.id,
        "form": adapter.form,
        "model": adapter.model,
        "origin": dict(adapter.origin),
    }
    save_file(dict(adapter.tensors), folder / (WEIGHTS + ".part"))
    os.replace(folder / (WEIGHTS + ".part"), folder / WEIGHTS)
    (folder / (CONFIG + ".part")).write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    os.replace(folder / (CONFIG + ".part"), folder / CONFIG)
    return folder


def load_adapter(folder: Path | str) -> Adapter:
    """Read an adapter back, bit-exact. Raises PsrError when the folder is missing, damaged or of another format."""
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        if config.get("format") != _FORMAT:
            raise PsrError("not an adapter of a known format", where=folder, expected=_FORMAT, got=config.get("format"))
        return Adapter(config["id"], config["form"], config["model"], load_file(folder / WEIGHTS), config["origin"])
    except PsrError:
        raise
    except Exception as error:  # safetensors and json raise types of their own
        raise PsrError(
            "an adapter's folder is missing or damaged",
            where=folder,
            got=f"{type(error).__name__}: {error}",
            do="Fetch or fit it again.",
        ) from error
