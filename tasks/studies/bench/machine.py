"""What a figure of speed depends on and its reader cannot guess: cores, threads, torch, the model and its device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def machine(lm: LanguageModel) -> dict[str, Any]:
    """The machine's columns of the table `bench`; never a host's name or a path."""
    import torch

    cuda = lm.device.type == "cuda"
    device = torch.cuda.get_device_name(lm.device) if cuda else lm.device.type
    return {
        "device": device,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "model": lm.fingerprint,
    }
