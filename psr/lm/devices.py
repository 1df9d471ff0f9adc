"""In which dtype and on which device a model runs: what "auto" comes to on this machine, and whether a model fits there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from psr.errors import PsrError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
SPREAD = "balanced"  # the device that is all GPUs, as accelerate's device_map names it
_LIMITS = (  # of a container, and what it holds that cannot be given back: cgroups version 2, then 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.stat", "anon"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.stat", "rss"),
)


def resolved(dtype: str, device: str) -> tuple[str, str]:
    """`dtype` and `device` with what "auto" comes to on this machine.

    device: the GPU (or other accelerator) that torch finds, else "cpu". dtype: "bfloat16" where the processor says of itself
    that it computes with it (avx512_bf16 or amx_bf16) or the GPU does, else "float32".

        >>> psr.lm.devices.resolved("float32", "cpu")
        ('float32', 'cpu')
    """
    if device == AUTO:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = "cpu" if accelerator is None else accelerator.type
    if dtype == AUTO:
        dtype = "bfloat16" if _computes_bfloat16(device) else "float32"
    return dtype, device


def _computes_bfloat16(device: str) -> bool:
    if device.startswith(("cuda", SPREAD)):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    says: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not say
    return device == "cpu" and bool(says.get("avx512_bf16") or says.get("amx_bf16"))


def check_dtype(name: str) -> torch.dtype:
    """The dtype of this name. Raises PsrError for another."""
    if name not in DTYPES:
        raise PsrError("unknown dtype", expected=f"{AUTO} or one of {', '.join(DTYPES)}", got=repr(name))
    return DTYPES[name]


def check_device(name: str) -> None:
    """Raise PsrError unless torch can compute there; for "balanced" unless there is a GPU."""
    try:
        torch.zeros(1, device="cuda" if name == SPREAD else name).item()
    except Exception as error:  # torch raises four different types here
        reason = str(error).splitlines()[0]
        raise PsrError(
            "this device is not available",
            expected="a device that torch sees here, such as 'cpu'",
            got=f"{name!r}: {reason}",
            do="Choose another device.",
        ) from error


def check_fits(kind: Any, config: Any, dtype: torch.dtype, device: str, where: object) -> None:
    """Raise PsrError where the weights of a model with this config take more memory than is free, before any is read.

    kind: the class of transformers that builds it. Quantised weights are not counted, nor those of a model whose own code
    cannot be built without weights: how large they are is seen when they are loaded.
    """
    if getattr(config, "quantization_config", None) is not None:
        return
    parameters = parameter_count(kind, config)
    if parameters is None:
        return
    needed = parameters * dtype.itemsize
    for memory in dict.fromkeys((device,) if device == SPREAD else ("cpu", device)):  # loaded there, then moved
        free = available(memory)
        if free is not None and needed > free:
            raise PsrError(
                "the model does not fit the memory",
                where=where,
                expected=f"at most {free / 1e9:.3g} GB, what is free on {memory}",
                got=f"{needed / 1e9:.3g} GB: {parameters:,} parameters of {dtype.itemsize} bytes",
                do="Free some, or choose a smaller dtype, a smaller model or another device.",
            )


def parameter_count(kind: Any, config: Any) -> int | None:
    """How many numbers the weights of a model with this config hold; None where `kind`, the class of transformers that builds it,
    cannot without its weights."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in kind.from_config(config).parameters())
    except Exception:
        return None


def available(device: str) -> int | None:
    """Bytes of memory that are free on a device; None where it does not say."""
    if device == SPREAD:
        return sum(torch.cuda.mem_get_info(one)[0] for one in range(torch.cuda.device_count()))
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return _available_to_processor() if device == "cpu" else None


def _available_to_processor() -> int | None:
    """What Linux calls available, or less where a container's limit leaves less; None elsewhere."""
    free = [1024 * size for size in (_entry("/proc/meminfo", "MemAvailable:"),) if size is not None]
    for limit, stat, held in _LIMITS:
        with suppress(OSError, ValueError):  # no such limit, or the word "max"
            free.append(max(0, int(Path(limit).read_text(encoding="ascii")) - (_entry(stat, held) or 0)))
    return min(free, default=None)


def _entry(file: str, name: str) -> int | None:
    """The number behind `name` in one of the system's files."""
    with suppress(OSError):
        for line in Path(file).read_text(encoding="ascii").splitlines():
            word, *rest = line.split()
            if word == name:
                return int(rest[0])
    return None
