"""Where a model's files lie: in a folder, in one GGUF file, or on the hub, from where they come into its cache.

Whatever is loaded is one model for good: a name on the hub counts only together with the commit that is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.lm.hub import HUB_ID, check_name, snapshot

_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")  # config, tokenizer, templates
_CODE = ("*.py",)
_WEIGHTS = ("*.safetensors",)
_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Source:
    """name: what the user wrote. folder: where the files lie. gguf: the file in it that is the model, where it is one file.
    revision: the commit, of a model of the hub, whose weights may still be missing in the folder."""

    name: str
    folder: Path
    gguf: str | None = None
    revision: str | None = None

    @property
    def access(self) -> dict[str, Any]:
        """What every loader of transformers has to be told."""
        return {"local_files_only": True, **({"gguf_file": self.gguf} if self.gguf else {})}

    def check_weights(self) -> None:
        """Bring the weights here, of a model of the hub. Raise PsrError where there are none, or only pickled ones."""
        if self.revision is not None:
            snapshot(self.name, self.revision, _WEIGHTS)
        if self.gguf is None:
            _check_weights(self.folder)


def located(path: Path | str, revision: str | None = None, *, code: bool = False) -> Source:
    """The files of the model that `path` names, of a model of the hub without its weights. code: its own Python code too.

    Raises PsrError: nothing there; a folder without config; a file that is not GGUF, or one without the packages that read it; a
    name on the hub without the commit; and where the hub has no such model, or cannot be reached and the model is not in its cache.
    """
    name, place = str(path), Path(path)
    if not place.exists() and revision is not None:
        check_name(name, revision)
        return Source(name, snapshot(name, revision, (*_SMALL, *(_CODE if code else ()))), None, revision)
    if revision is not None:
        raise PsrError("only a model of the hub has a revision", where=name, got=revision, do="Leave the revision out.")
    if place.is_file():
        _check_gguf(place)
        return Source(name, place.parent, place.name)
    _check_folder(place)
    return Source(name, place)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        hub = (
            " For a model of the hub, give the commit that is meant as its revision."
            if HUB_ID.fullmatch(str(folder))
            else ""
        )
        raise PsrError(
            "the model folder is missing",
            where=folder,
            expected="a Hugging Face model folder",
            do=f"Correct the path.{hub}",
        )
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        raise PsrError(
            "not a model folder",
            where=folder,
            expected="a file config.json",
            got="none",
            do=f"Name the file: {files[0]}" if files else "Correct the path.",
        )


def _check_weights(folder: Path) -> None:
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


def _check_gguf(file: Path) -> None:
    with open(file, "rb") as opened:
        begins = opened.read(len(_MAGIC))
    if begins != _MAGIC:
        raise PsrError(
            "this file is not a GGUF file",
            where=file,
            expected="a model folder, or a file that begins with GGUF",
            got=f"{begins!r}" if begins else "an empty file",
            do="Correct the path, or fetch the file again.",
        )
    missing = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if missing:
        raise PsrError(
            "GGUF files need packages that are not installed",
            where=file,
            got=f"no {' and no '.join(missing)}",
            do="pip install 'prompt-steering-replacement[gguf]'",
        )
