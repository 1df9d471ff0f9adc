"""Loading a language model from a folder: safetensors only, whole or not at all, with one clear line for what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from psr.errors import PsrError
from psr.lm.models import LanguageModel, wrap
from psr.lm.templates import own_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    path: Path | str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    local_files_only: bool = True,
    template: Mapping[str, object] | None = None,
) -> LanguageModel:
    """The causal LM in folder `path` (or with that hub id, if `local_files_only` is off), safetensors only.

    dtype: "float32", "bfloat16" or "float16". device: as torch names it ("cpu", "cuda:0"). template: as in `wrap`.
    trust_remote_code: let the model bring its own Python code, which then runs here.
    Raises PsrError when the folder is missing, damaged, incomplete, holds pickles or no causal LM, when dtype or device are
    unknown, and for what `wrap` refuses.

        >>> lm = psr.load_model("data/testbed/model")
        >>> lm.n_layers, lm.d_model, lm.context
        (6, 128, 256)
    """
    torch_dtype, torch_device = _dtype(dtype), _device(device)
    if Path(path).is_dir() or local_files_only:
        _check_folder(Path(path))
    access: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": local_files_only}
    with _quiet():
        config = _load_config(path, access)
        model = _load_weights(path, config, torch_dtype, access)
        tokenizer = _load_tokenizer(path, access)
    model.to(torch_device)  # type: ignore[arg-type]
    return wrap(model, tokenizer, template=template)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise PsrError("unknown dtype", expected=f"one of {', '.join(DTYPES)}", got=repr(name))
    return DTYPES[name]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # torch raises four different types here
        reason = str(error).splitlines()[0]
        raise PsrError(
            "this device is not available",
            expected="a device that torch sees here, such as 'cpu'",
            got=f"{name!r}: {reason}",
            do="Choose another device.",
        ) from error
    return device


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise PsrError(
            "the model folder is missing", where=folder, expected="a Hugging Face model folder", do="Correct the path."
        )
    if not (folder / "config.json").is_file():
        raise PsrError(
            "not a model folder", where=folder, expected="a file config.json", got="none", do="Correct the path."
        )
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
    raise PsrError(
        "the model folder holds no safetensors weights",
        where=folder,
        expected="model.safetensors",
        got=f"pickled weights ({pickles[0]}), which are never loaded" if pickles else "no weights",
        do="Save it again with save_pretrained." if pickles else "Fetch it again.",
    )


def _load_config(path: Path | str, access: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(path), **access)
    except Exception as error:
        raise _unreadable("config", path, error) from error
    if not _is_causal(config):
        raise PsrError(
            "this model is not a causal language model",
            where=path,
            expected="a decoder with a language-model head",
            got=", ".join(config.architectures or [config.model_type]),
            do="Choose a decoder-only model.",
        )
    return config


def _is_causal(config: Any) -> bool:
    """Whether the class that saved the weights generates text with a decoder alone (or brings its own code for that)."""
    if config.is_encoder_decoder:
        return False
    if not config.architectures:
        return config.model_type in _classes("CAUSAL_LM")
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return True
    return _saved_by(config, "CAUSAL_LM") or _saved_by(config, "IMAGE_TEXT_TO_TEXT")


def _saved_by(config: Any, kind: str) -> bool:
    """Whether one of the classes of this kind saved the weights."""
    classes = {name for names in _classes(kind).values() for name in ([names] if isinstance(names, str) else names)}
    return bool(classes.intersection(config.architectures or ()))


def _classes(kind: str) -> Mapping[str, Any]:
    """transformers' table of the classes of one kind, by model type."""
    from transformers.models.auto import modeling_auto

    return dict(getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES"))


def _load_weights(path: Path | str, config: Any, dtype: torch.dtype, access: dict[str, Any]) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal = _saved_by(config, "CAUSAL_LM") or not _saved_by(config, "IMAGE_TEXT_TO_TEXT")
    kind: Any = AutoModelForCausalLM if causal else AutoModelForImageTextToText  # the language model inside is steered
    settings: dict[str, Any] = {"config": config, "dtype": dtype, "use_safetensors": True, **access}
    try:
        loaded: Any = kind.from_pretrained(str(path), output_loading_info=True, **settings)
    except Exception as error:
        raise _unreadable("weights", path, error) from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:  # transformers fills them with random numbers and only warns
        raise PsrError(
            "the model's weights are incomplete",
            where=path,
            expected="every tensor of its config",
            got=f"{len(missing)} missing, the first {missing[0]}",
            do="Fetch or build the model again.",
        )
    return model


def _load_tokenizer(path: Path | str, access: dict[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), **access)
    except Exception as error:
        raise _unreadable("tokenizer", path, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise PsrError(
            "the model has no tokenizer",
            where=path,
            expected="tokenizer files",
            do="Save the tokenizer into the folder.",
        )
    if tokenizer.chat_template is None and Path(path).is_dir():
        tokenizer.chat_template = own_template(Path(path))
    return tokenizer


def _unreadable(part: str, path: Path | str, error: Exception) -> PsrError:
    reason, do = (
        " ".join(str(error).split()),
        "The files are damaged or of another kind: fetch or build the model again.",
    )
    if "trust_remote_code" in reason:
        reason, do = "a model that brings its own code", "Set trust_remote_code only if you trust its author."
    return PsrError(
        f"the model's {part} cannot be read", where=path, got=f"{type(error).__name__}: {reason[:200]}", do=do
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no load report from transformers: what matters in them is raised here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
