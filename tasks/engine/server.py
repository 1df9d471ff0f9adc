"""The Prefect server of a run: one process on the loopback interface that ends with the run.

`python -m tasks.engine.server` is that process. It binds a free port and prints its address.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from psr.errors import PsrError

HOST = "127.0.0.1"
PATIENCE = 300.0  # seconds; a new database takes ten on an idle machine, and minutes on one with other work


@contextmanager
def server(root: Path, meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yields the address of a server: the one in PREFECT_API_URL, or a new one that ends with the context.

    meanwhile(): called while it starts.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        check_server()
        meanwhile()
        yield named
        return
    log = root / ".psr" / "prefect" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = start(root, log, os.environ)
    ended = threading.Event()
    try:
        meanwhile()
        url = _address(process, log)
        os.environ["PREFECT_API_URL"] = url  # prefect reads it on import
        import_module("prefect")
        _wait(process, url, log)
        threading.Thread(target=_end_with, args=(process, log, ended), daemon=True, name="watch-server").start()
        yield url
    finally:
        for handler in logging.getLogger("prefect.flow_runs").handlers:
            handler.flush()  # send the last lines while the server runs
        ended.set()
        os.environ.pop("PREFECT_API_URL", None)
        process.kill()
        process.wait()


def check_server(timeout: float = 10.0) -> None:
    """Raise PsrError where PREFECT_API_URL names a server that does not answer; nothing is checked without it."""
    url = os.environ.get("PREFECT_API_URL")
    if url and not answers(url, timeout):
        raise PsrError(
            "the Prefect server does not answer",
            where=url,
            do="Start it, or unset PREFECT_API_URL: then a run starts its own.",
        )


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether the API at `url` is healthy."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout) as reply:  # noqa: S310
            return reply.status == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _end_with(process: subprocess.Popen[str], log: Path, ended: threading.Event) -> None:
    """End this process and what it started when the server dies under it: Prefect would try to reach it for minutes."""
    process.wait()
    if not ended.is_set():
        last = _last_line(log)
        problem = PsrError(
            "the Prefect server died",
            where=log,
            got=f"status {process.returncode} {last}".strip(),
            do="Run again: what was finished is kept.",
        )
        print(problem, file=sys.stderr, flush=True)
        os._exit(1)


def start(folder: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a server process in `folder` that logs to `log`; it ends when its standard input closes, with this process."""
    with open(log, "w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.engine.server"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
            env=dict(environment),
        )


def _address(process: subprocess.Popen[str], log: Path) -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line.startswith("http"):
        raise PsrError(
            "the Prefect server did not start",
            where=log,
            got=_last_line(log) or "no message",
            do="See python -m flows.doctor.",
        )
    return line


def _wait(process: subprocess.Popen[str], url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not answers(url):
        if process.poll() is not None or time.monotonic() > end:
            raise PsrError(
                "the Prefect server did not start",
                where=log,
                got=_last_line(log) or "no message",
                do="See python -m flows.doctor.",
            )
        time.sleep(0.1)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def main() -> int:
    """Serve until the parent process ends."""
    try:
        port = socket.create_server((HOST, 0))
    except OSError as error:
        print(f"no free port on {HOST}: {error}", file=sys.stderr)
        return 1
    threading.Thread(target=_end_with_parent, daemon=True, name="watch-parent").start()
    url = f"http://{HOST}:{port.getsockname()[1]}/api"
    os.environ.setdefault("PREFECT_SERVER_UI_API_URL", url)  # its pages use port 4200 otherwise
    print(url, flush=True)
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.Server(uvicorn.Config(create_app(), log_level="warning", lifespan="on")).run(sockets=[port])
    return 0


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent ends, even by kill -9
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
