"""Stages that start at once: one process imports what every stage imports and forks each stage from itself.

Importing torch, transformers and Prefect takes a stage longer than most of its work. `python -m tasks.engine.warm` does it once
a run and then waits on a socket; `python -m flows.stage` hands itself over to it, lends it its standard streams and
ends as the fork ends. The project's own code is imported after the fork, so that a stage runs what the files say when it
starts. Without such a process (plain `dvc repro`, systems without pidfd) a stage does its imports itself.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tasks.engine import watch

ADDRESS = "PSR_WARM"
PRELOADED = (
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "prefect.concurrency.services",
    "fastapi",
    "anyio._backends._asyncio",
    "torch",
    "transformers.modeling_utils",
    "transformers.masking_utils",
    "transformers.generation.utils",
    "transformers.processing_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "safetensors.torch",
    "pyarrow.parquet",
)
OURS = ("psr", "tasks", "flows")
STREAMS = (0, 1, 2)


@contextmanager
def warm(root: Path) -> Iterator[None]:
    """Offer a warm process to every stage that is started in the context."""
    if not hasattr(os, "pidfd_open") or ADDRESS in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="psr-") as folder:  # short: a socket's path has at most 107 bytes
        path = Path(folder) / "warm"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.engine.warm", str(listener.fileno()), *PRELOADED],
            cwd=root,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[listener.fileno()],
            env={**os.environ, watch.PARENT: watch.identity(os.getpid())},
        )
        listener.close()
        os.environ[ADDRESS] = str(path)
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            process.kill()
            process.wait()


def hand_over(argv: Sequence[str]) -> int | None:
    """Run the stage that `argv` names in a fork of the warm process; its exit status. None: there is none, run it here."""
    address = os.environ.get(ADDRESS)
    if not address:
        return None
    followed = " ".join([*watch.parents(os.environ), watch.identity(os.getpid())])
    environment = {name: value for name, value in os.environ.items() if name != ADDRESS} | {watch.PARENT: followed}
    request = json.dumps({"argv": list(argv), "cwd": os.getcwd(), "environment": environment}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            socket.send_fds(connection, [len(request).to_bytes(8, "big")], STREAMS)
            connection.sendall(request)
        except OSError:
            return None
        answer = connection.recv(16)  # waits for the end of the stage
    if not answer:  # the warm process is gone, and the stage with it
        return 1
    status = int(answer)
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


def main(argv: Sequence[str]) -> int:
    """Import argv[1:], then fork a stage for every request on the socket with descriptor argv[0], until the parent ends."""
    parent = os.environ[watch.PARENT]
    listener = socket.socket(fileno=int(argv[0]))
    for name in argv[1:]:
        import_module(name)
    gc.freeze()  # forks share what is there: the collector need not touch it
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while watch.alive(parent):
            for key, _ in selector.select(timeout=watch.EVERY):
                if key.fileobj is listener:
                    _accept(listener, selector)
                elif isinstance(key.fileobj, socket.socket):  # nobody waits for this stage any more
                    _kill(key.data)
                else:
                    _ended(selector, key.data)
    return 0


@dataclass(frozen=True, eq=False)
class _Stage:
    """One fork: its process, a descriptor that is readable when it has ended, and who waits for its status."""

    pid: int
    end: int
    connection: socket.socket


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    connection, _ = listener.accept()
    head, streams, _, _ = socket.recv_fds(connection, 8, len(STREAMS))
    with connection.makefile("rb") as reader:
        request = reader.read(int.from_bytes(head, "big")) if len(head) == 8 else b""
    pid = os.fork() if request and len(streams) == len(STREAMS) else None
    if pid == 0:
        _close_all(selector, connection)
        _become(json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    if pid is None:
        connection.close()
        return
    stage = _Stage(pid, os.pidfd_open(pid), connection)
    selector.register(stage.end, selectors.EVENT_READ, stage)
    selector.register(connection, selectors.EVENT_READ, stage)


def _close_all(selector: selectors.BaseSelector, connection: socket.socket) -> None:
    """What belongs to the warm process and not to its fork."""
    for key in list(selector.get_map().values()):
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
        else:
            os.close(key.fd)
    connection.close()
    selector.close()


def _become(request: dict[str, object], streams: Sequence[int]) -> None:
    """Turn this fork into the stage, which ends with the warm process too; never returns."""
    status = 1
    try:
        os.setsid()
        for stream, ours in zip(streams, STREAMS, strict=True):
            os.dup2(stream, ours)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload]
        os.environ[watch.PARENT] += f" {watch.identity(os.getppid())}"
        os.chdir(str(request["cwd"]))
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        import_module("prefect.context").refresh_global_settings_context()  # it was imported under other variables
        status = import_module("flows.stage").main(request["argv"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _ended(selector: selectors.BaseSelector, stage: _Stage) -> None:
    """Tell who waits how the stage ended; to nobody, if they are gone."""
    for there in (stage.end, stage.connection):
        selector.unregister(there)
    status = os.waitstatus_to_exitcode(os.waitpid(stage.pid, 0)[1])
    os.close(stage.end)
    with suppress(OSError), stage.connection:
        stage.connection.sendall(str(status).encode())


def _kill(stage: _Stage) -> None:
    """End a stage that nobody waits for any more. Its descriptor tells when that has happened."""
    if stage.connection.fileno() >= 0:  # not ended meanwhile: its number is still its own
        with suppress(ProcessLookupError):
            os.killpg(stage.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
