"""The Hugging Face hub: the files of one commit of a model or module, out of its cache on this machine where they are there.

The hub's own library tries again for half a minute where there is no network. Here it is asked once, and not waited for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, TypeVar

from psr.errors import PsrError
from psr.types import ModelName

Answer = TypeVar("Answer")

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")  # a path in the hub's cache ends so
_PATIENCE = 10.0  # seconds to wait for its first answer


def check_name(name: str, revision: str) -> None:
    """Raise PsrError unless `name` may be one on the hub and `revision` is a commit."""
    check_id(name)
    if not COMMIT.fullmatch(revision):
        raise PsrError(
            "a revision has to be a commit: a branch or a tag may be another model tomorrow",
            where=name,
            expected="40 hex digits, as the hub's page of the model's commits shows them",
            got=repr(revision),
        )


def check_id(name: str) -> None:
    """Raise PsrError unless `name` may be one on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise PsrError("neither a path nor a name on the hub", where=name, expected="such as owner/model") from None


def named(path: str, commit: str | None = None) -> ModelName:
    """What a model that was loaded from `path` is called; commit: as transformers found it, of a name on the hub.

    Of any other folder or file only its own name is kept: the rest of the path says something of one machine alone.
    """
    if cached := _CACHED.search(Path(path).as_posix()):
        owner, name, revision = cached.groups()
        return ModelName(f"{owner}/{name}", revision)
    if commit and COMMIT.fullmatch(commit) and not os.path.exists(path):
        return ModelName(path, commit)
    return ModelName(Path(path).resolve().name if path else "")


def snapshot(name: str, revision: str, patterns: Sequence[str], kind: str = "model") -> Path:
    """The folder of the hub's cache with these files, fetched where they are not there yet. Without the hub, a cache that
    does not say whether it is whole (others may have filled it) is taken as it is. kind: what errors call it."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {"repo_id": name, "revision": revision, "allow_patterns": list(patterns)}
    if _listed(name, revision):
        with suppress(LocalEntryNotFoundError), silent():  # some are missing
            return Path(snapshot_download(**wanted, local_files_only=True))
    problem: Exception | None = None
    try:
        asked(lambda: HfApi().model_info(name, revision=revision, timeout=_PATIENCE))
    except Exception as error:
        problem = error
    try:
        with silent():
            return Path(snapshot_download(**wanted, local_files_only=problem is not None))
    except Exception as error:
        raise _unreachable(name, problem or error, kind) from error


def _listed(name: str, revision: str) -> bool:
    """Whether the cache knows which files the model has."""
    try:
        from huggingface_hub import get_cached_repo_tree

        return bool(get_cached_repo_tree(name, revision=revision))
    except Exception:  # no such list, or a version that keeps none
        return False


def asked(question: Callable[[], Answer]) -> Answer:
    """The hub's answer to one question, with a short patience: downloads are tried again for half a minute, and looking up an
    address may take as long. Raises what the question raises, and TimeoutError."""
    answers: Queue[tuple[bool, Any]] = Queue()

    def ask() -> None:
        try:
            answers.put((True, question()))
        except Exception as error:
            answers.put((False, error))

    Thread(target=ask, daemon=True).start()
    try:
        answered, value = answers.get(timeout=_PATIENCE)
    except Empty:
        raise TimeoutError(f"no answer within {_PATIENCE:g} s") from None
    if not answered:
        raise value
    return value  # type: ignore[no-any-return]


@contextmanager
def silent() -> Iterator[None]:
    """No progress bars of the hub's library, unless they are off anyway."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def said(error: Exception) -> str:
    """What the hub or its library said, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _unreachable(name: str, error: Exception, kind: str) -> PsrError:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return PsrError(
            f"this {kind} is not in the hub's cache on this machine, and HF_HUB_OFFLINE forbids to fetch it",
            where=name,
            do="Set HF_HUB_OFFLINE=0, or give a folder.",
        )
    if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
        return PsrError(
            f"the hub does not give this {kind}",
            where=name,
            got=said(error),
            do="Correct its name and revision, or log in to the hub.",
        )
    return PsrError(
        f"the hub cannot be reached, and this {kind} is not in its cache on this machine",
        where=name,
        got=said(error),
        do="Try again with a network, or give a folder.",
    )
