"""Loading a language model: safetensors or GGUF, whole or not at all, with one clear line for what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from psr.errors import PsrError
from psr.lm.devices import SPREAD, check_device, check_dtype, check_fits, resolved
from psr.lm.hub import named
from psr.lm.models import LanguageModel, wrap
from psr.lm.sources import Source, located
from psr.lm.templates import own_template
from psr.types import ModelName

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})


def load_model(
    path: Path | str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    template: Mapping[str, object] | None = None,
) -> LanguageModel:
    """The causal LM at `path`: a folder with safetensors, a GGUF file, or a name on the Hugging Face hub.

    revision: of a model of the hub, and required there: the commit, 40 hex digits, since what a name or a branch stands for may
    change. It is fetched once, into the hub's cache, and never with HF_HUB_OFFLINE set.
    dtype: "float32", "bfloat16" or "float16"; "auto" is bfloat16 where the processor or GPU computes with it, else float32.
    device: as torch names it ("cpu", "cuda:0"); "auto" is the GPU where there is one; "balanced" spreads the layers over all GPUs,
    which needs accelerate. `lm.dtype` and `lm.device` say what it came to.
    trust_remote_code: let the model bring its own Python code, which then runs here. template: as in `wrap`.

    A GGUF file needs the extra `gguf`; its weights are unpacked into `dtype`. Quantised weights in a folder are what
    transformers makes of them. Neither those, "balanced" nor any GPU was tried: there was none to try them on.
    Raises PsrError when the files are missing, damaged, incomplete, pickled or hold no causal LM, when dtype or device are
    unknown, when the model takes more memory than is free, and for what `wrap` refuses.

        >>> lm = psr.load_model("data/testbed/model")
        >>> lm.n_layers, lm.d_model, lm.context
        (6, 128, 256)
    """
    dtype, device = resolved(dtype, device)
    torch_dtype = check_dtype(dtype)
    check_device(device)
    source = located(path, revision, code=trust_remote_code)
    access = {"trust_remote_code": trust_remote_code, **source.access}
    with quiet():
        config = _load_config(source, access)
        check_fits(_kind(config), config, torch_dtype, device, source.name)
        source.check_weights()
        model = _load_weights(source, config, torch_dtype, device, access)
        tokenizer = _load_tokenizer(source, access)
    name = ModelName(source.name, source.revision) if source.revision else named(source.name)
    return replace(wrap(model, tokenizer, template=template), name=name)


def _load_config(source: Source, access: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(source.folder), **access)
    except Exception as error:
        raise _unreadable("config", source, error) from error
    if not _is_causal(config):
        raise PsrError(
            "this model is not a causal language model",
            where=source.name,
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


def _kind(config: Any) -> Any:
    """The class of transformers that builds the model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal = _saved_by(config, "CAUSAL_LM") or not _saved_by(config, "IMAGE_TEXT_TO_TEXT")
    return AutoModelForCausalLM if causal else AutoModelForImageTextToText  # the language model inside is steered


def _load_weights(
    source: Source, config: Any, dtype: torch.dtype, device: str, access: dict[str, Any]
) -> PreTrainedModel:
    from transformers import GgufConfig

    settings: dict[str, Any] = {"config": config, "dtype": dtype, "use_safetensors": True, **access}
    spread = device == SPREAD or getattr(config, "quantization_config", None) is not None
    if spread:  # by accelerate: quantised weights cannot be moved once they are loaded
        settings["device_map"] = device
    if source.gguf:  # unpacked, whatever this machine could do with packed weights
        settings["quantization_config"] = GgufConfig(dequantize=True)
    try:
        with redirect_stderr(StringIO()) if source.gguf else nullcontext():  # a bar that cannot be switched off
            loaded: Any = _kind(config).from_pretrained(str(source.folder), output_loading_info=True, **settings)
    except Exception as error:
        raise _unreadable("weights", source, error) from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:  # transformers fills them with random numbers and only warns
        raise PsrError(
            "the model's weights are incomplete",
            where=source.name,
            expected="every tensor of its config",
            got=f"{len(missing)} missing, the first {missing[0]}",
            do="Fetch or build the model again.",
        )
    return model if spread else model.to(torch.device(device))


def _load_tokenizer(source: Source, access: dict[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source.folder), **access)
    except Exception as error:
        raise _unreadable("tokenizer", source, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise PsrError(
            "the model has no tokenizer",
            where=source.name,
            expected="tokenizer files",
            do="Save the tokenizer into the folder.",
        )
    if source.gguf is not None:
        _split_digits(tokenizer, source.folder / source.gguf)
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = own_template(source.folder)
    return tokenizer


def _split_digits(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Have digits split off first where the file says so (llama.cpp's src/llama-vocab.cpp): transformers does not, and of
    an empty line before a list it would make other tokens than the model has learned."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    kind = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if kind is not None and kind.contents() in _SINGLE_DIGITS:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )


def _unreadable(part: str, source: Source, error: Exception) -> PsrError:
    reason, do = (
        " ".join(str(error).split()),
        "The files are damaged or of another kind: fetch or build the model again.",
    )
    if isinstance(error, ImportError):
        do = "Install what it names."
    if "trust_remote_code" in reason:
        reason, do = "a model that brings its own code", "Set trust_remote_code only if you trust its author."
    return PsrError(
        f"the model's {part} cannot be read", where=source.name, got=f"{type(error).__name__}: {reason[:200]}", do=do
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report from transformers: what matters in them is raised here."""
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
