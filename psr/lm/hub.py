"""The Hugging Face hub: the files of one commit of a model, out of its cache on this machine where they are there.

The hub's own library tries again for half a minute where there is no network. Here it is asked once, and not waited for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from psr.errors import PsrError

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATIENCE = 10.0  # seconds to wait for its first answer


def check_name(name: str, revision: str) -> None:
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


def snapshot(name: str, revision: str, patterns: Sequence[str]) -> Path:
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
