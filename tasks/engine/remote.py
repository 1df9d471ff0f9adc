"""DVC's default remote, as a run in a clone that will be deleted uses it: step by step, so that nothing finished is lost.

bring    `dvc repro --pull` of one step: what dvc.lock or DVC's run cache names for its inputs, as far as the remote has it
push     its outputs, at once
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psr.errors import PsrError
from tasks.engine.access import address_of, answering
from tasks.engine.progress import say

MEND = "Mend it and run again: what was finished is kept in DVC's cache, and is sent then."


def has_remote(repo: Any) -> bool:
    """Whether a default remote is configured."""
    return bool(repo.config["core"].get("remote"))


@contextmanager
def used(repo: Any, step: str) -> Iterator[None]:
    """Talk to the remote about a step in this context. What it raises comes as PsrError, in one line, without secrets."""
    from dvc.exceptions import DvcException
    from dvc.stage.cache import RunCacheNotFoundError

    address = address_of(repo)
    try:
        with answering(repo, address):
            yield
    except RunCacheNotFoundError:  # no failure: the step was never run on these inputs
        raise
    except DvcException as error:
        raise PsrError(f"the remote failed with {step}", where=address, got=error, do=MEND) from error


def push(repo: Any, stage: Any) -> None:
    """Send a step's outputs, those that git keeps too: with them the step can be restored anywhere. Raises PsrError."""
    infos = {info for each in stage.get_used_objs().values() for info in each}
    infos |= {out.hash_info for out in stage.outs if not out.use_cache}
    with used(repo, stage.name):
        failed = len(repo.cloud.push(infos).failed)
    if failed:
        got = f"{failed} of {len(infos)} files refused"
        raise PsrError(f"the remote does not take what {stage.name} made", where=address_of(repo), got=got, do=MEND)


@contextmanager
def exchanged_runs(repo: Any) -> Iterator[None]:
    """Take the remote's records of which inputs gave which outputs, and add this repository's at the end.

    They save work and decide nothing: where they cannot be exchanged, a line says so.
    """
    _exchange(repo, repo.stage_cache.pull)
    try:
        yield
    finally:
        _exchange(repo, repo.stage_cache.push)


def _exchange(repo: Any, transfer: Any) -> None:
    from dvc.stage.cache import RunCacheNotSupported

    def transferred() -> None:
        with suppress(RunCacheNotSupported):  # by a remote that is a web server
            transfer(None)

    try:
        with used(repo, "the records of runs"):
            transferred()
    except PsrError as error:
        say(str(error))
