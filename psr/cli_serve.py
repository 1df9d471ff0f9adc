"""`psr serve` behind its options: what is checked before the model is loaded, and what is said while it runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from psr.cli_text import clean
from psr.errors import PsrError
from psr.serve import LOOPBACK

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

KEY = "PSR_SERVE_KEY"


def serve(
    open_model: Callable[[], LanguageModel],
    modules: Path | None,
    *,
    name: str,
    host: str,
    port: int,
    key: str,
    most: int,
    queue: int,
    longest: int,
) -> None:
    """Answer until Ctrl-C. Raises PsrError without the extra `serve`, for an address that is not free, and for one that others
    can reach without a key."""
    missing = [package for package in ("fastapi", "uvicorn") if find_spec(package) is None]
    if missing:
        raise PsrError(
            "the server's packages are not installed", got=f"no {', '.join(missing)}", do="Install the extra `serve`."
        )
    if host not in LOOPBACK and not key:
        raise PsrError(
            "others could reach this address, and there is no key", where=f"--host {host}",
            expected=f"a key in the environment variable {KEY}", do="Set it, or leave --host out.",
        )  # fmt: skip
    if not key.isascii() or not key.isprintable():
        raise PsrError("the key cannot be sent in a header", where=KEY, expected="printable ASCII characters")
    with bound_socket(host, port) as bound:
        from psr.serve.api import Service, create_app, server
        from psr.serve.engine import Engine
        from psr.serve.registry import load_registry

        lm = open_model()
        registry = load_registry(lm, modules, name)
        for reason in registry.refused.values():
            typer.echo(f"psr: not offered: {clean(reason)}", err=True)
        engine = Engine(lm, most=most, queue=queue)
        app = create_app(Service(engine, registry, longest, key))
        shown = f"[{host}]" if ":" in host else host
        n = len(registry.modules)
        offered = f"{registry.base} and {n} module{'' if n == 1 else 's'}"
        typer.echo(clean(f"{offered} at http://{shown}:{bound.getsockname()[1]}/v1"))
        try:
            server(app, engine, host, port).run(sockets=[bound])
        finally:
            engine.close()


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises PsrError where there is none to have."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise PsrError(
            "the address cannot be used", where=f"{host}:{port}", got=str(error), do="Give another --port."
        ) from None
