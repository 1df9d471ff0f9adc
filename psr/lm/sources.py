"""Where a model's files lie: in a folder, in one GGUF file, or on the hub, from where they come into its cache.

Whatever is loaded is one model for good: a name on the hub counts only together with the commit that is meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from psr.errors import PsrError

COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")  # config, tokenizer, templates
_CODE = ("*.py",)
_WEIGHTS = ("*.safetensors",)
_PATIENCE = 10.0  # seconds to wait for the hub's first answer
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
            _snapshot(self.name, self.revision, _WEIGHTS)
        if self.gguf is None:
            _check_weights(self.folder)


def located(path: Path | str, revision: str | None = None, *, code: bool = False) -> Source:
    """The files of the model that `path` names, of a model of the hub without its weights. code: its own Python code too.

    Raises PsrError: nothing there; a folder without config; a file that is not GGUF, or one without the packages that read it; a
    name on the hub without the commit; and where the hub has no such model, or cannot be reached and the model is not in its cache.
    """
    name, place = str(path), Path(path)
    if not place.exists() and revision is not None:
        _check_name(name, revision)
        return Source(name, _snapshot(name, revision, (*_SMALL, *(_CODE if code else ()))), None, revision)
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
            if _HUB_ID.fullmatch(str(folder))
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


def _check_name(name: str, revision: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise PsrError("neither a path nor a name on the hub", where=name, expected="such as owner/model") from None
    if not COMMIT.fullmatch(revision):
        raise PsrError(
            "a revision has to be a commit: a branch or a tag may be another model tomorrow",
            where=name,
            expected="40 hex digits, as the hub's page of the model's commits shows them",
            got=repr(revision),
        )


def _snapshot(name: str, revision: str, patterns: Sequence[str]) -> Path:
    """The folder of the hub's cache with these files, fetched where they are not there yet. Without the hub, a cache that
    does not say whether it is whole (others may have filled it) is taken as it is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {"repo_id": name, "revision": revision, "allow_patterns": list(patterns)}
    if _listed(name, revision):
        with suppress(LocalEntryNotFoundError):  # some are missing
            return Path(snapshot_download(**wanted, local_files_only=True))
    problem = _answer(name, revision)
    try:
        return Path(snapshot_download(**wanted, local_files_only=problem is not None))
    except Exception as error:
        raise _unreachable(name, problem or error) from error


def _listed(name: str, revision: str) -> bool:
    """Whether the cache knows which files the model has."""
    try:
        from huggingface_hub import get_cached_repo_tree

        return bool(get_cached_repo_tree(name, revision=revision))
    except Exception:  # no such list, or a version that keeps none
        return False


def _answer(name: str, revision: str) -> Exception | None:
    """Ask the hub for the model; what went wrong. One question with a short patience: downloads are tried again for half a
    minute, and looking up an address may take as long."""
    from huggingface_hub import HfApi

    answers: Queue[Exception | None] = Queue()

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=_PATIENCE)
            answers.put(None)
        except Exception as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=_PATIENCE)
    except Empty:
        return TimeoutError(f"no answer within {_PATIENCE:g} s")


def _unreachable(name: str, error: Exception) -> PsrError:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, OfflineModeIsEnabled):
        return PsrError(
            "this model is not in the hub's cache on this machine, and HF_HUB_OFFLINE forbids to fetch it",
            where=name,
            do="Set HF_HUB_OFFLINE=0, or give a folder.",
        )
    if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
        return PsrError(
            "the hub does not give this model",
            where=name,
            got=got,
            do="Correct its name and revision, or log in to the hub.",
        )
    return PsrError(
        "the hub cannot be reached, and this model is not in its cache on this machine",
        where=name,
        got=got,
        do="Try again with a network, or give a folder.",
    )
