"""No orphans: a process that watches who started it, and ends its group when they are gone, kill -9 included.

Nothing tells a child that its parent was killed, so it looks once a second. A process is known by its id and the time
it was created: ids are given out again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

PARENT = "PSR_PARENT"
EVERY = 1.0
SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "busybox"}

_watching = threading.Lock()


def identity(pid: int) -> str:
    """`pid:created`, which no other process will ever have. Raises psutil.NoSuchProcess.

    Linux counts the time from the start of the machine, which a corrected clock does not move; psutil does not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{pid}:{stat.rpartition(')')[2].split()[19]}"
    except OSError:
        return f"{pid}:{psutil.Process(pid).create_time():.0f}"


def alive(who: str) -> bool:
    """Whether the process of that identity still runs. A zombie does not."""
    try:
        process = psutil.Process(int(who.split(":")[0]))
        return identity(process.pid) == who and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def parents(environment: Mapping[str, str]) -> list[str]:
    """Whose end is ours: those named in the environment, the reproduction first, and the DVC process that runs this stage.

    DVC starts a stage through a shell, which outlives a killed DVC: so shells are climbed over.
    """
    found = environment.get(PARENT, "").split()
    if "DVC_STAGE" in environment:
        parent = psutil.Process().parent()
        while parent is not None and parent.name() in SHELLS and parent.ppid() > 1:
            parent = parent.parent()
        found += [identity(parent.pid)] if parent else []
    return found


def follow(environment: Mapping[str, str] = os.environ) -> None:
    """Start watching, once per process: within 2 s of a parent's end this process's group is ended."""
    if not _watching.acquire(blocking=False):
        return
    watched = parents(environment)
    if watched:
        threading.Thread(target=_look, args=(watched,), daemon=True, name="watch-parents").start()


def _look(watched: Sequence[str]) -> None:
    while all(alive(who) for who in watched):
        time.sleep(EVERY)
    end_with_group([int(who.split(":")[0]) for who in watched])


def end_with_group(watched: Sequence[int] = ()) -> None:
    """End this process and what it started; the whole group where that is ours: led by us, by a watched one, by nobody."""
    leader = os.getpgrp()
    if leader == os.getpid() or leader in watched or not psutil.pid_exists(leader):
        os.killpg(leader, signal.SIGKILL)
    end_children()
    os.kill(os.getpid(), signal.SIGKILL)


def end_children() -> None:
    """End every process that this one started, and those that they started."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
