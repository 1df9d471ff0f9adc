"""`psr ui` behind its options: what is checked before the model is loaded, and what is said while the page is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from psr.cli_serve import bound_socket
from psr.cli_text import clean
from psr.errors import PsrError

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def show_page(
    open_model: Callable[[], LanguageModel], model: str, modules: Path | None, port: int, options: Mapping[str, object]
) -> None:
    """Show the page until Ctrl-C. model, options: as `load_model` takes them, for the page's lines of Python.

    Raises PsrError without the extra `ui`, and for a port that is not free.
    """
    if find_spec("gradio") is None:
        raise PsrError("the page's package is not installed", got="no gradio", do="Install the extra `ui`.")
    with bound_socket("127.0.0.1", port) as bound:
        from psr.serve.registry import load_registry
        from psr.ui.page import Source, build, server

        lm = open_model()
        registry = load_registry(lm, modules)
        for reason in registry.refused.values():
            typer.echo(f"psr: not offered: {clean(reason)}", err=True)
        running = server(build(lm, registry, Source(model, modules, options)))
        n = len(registry.modules)
        offered = f"{registry.base} and {n} module{'' if n == 1 else 's'}"
        typer.echo(clean(f"{offered} at http://127.0.0.1:{bound.getsockname()[1]}"))
        running.run(sockets=[bound])
