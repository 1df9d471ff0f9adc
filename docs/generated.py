"""The parts of the reference that follow from the code, as Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import psr

ROOMS = ("types", "errors", "lm", "steering", "answers", "judges", "fitting")  # each builds on those before it


def library() -> str:
    """Every public name of `psr`, room by room: its signature, its docstring, and what a class offers."""
    public = {name: getattr(psr, name) for name in psr.__all__}
    homes = {name: value.__module__.split(".")[1] for name, value in public.items()}
    lines = [inspect.getdoc(psr) or "", ""]
    for room in [*ROOMS, *sorted(set(homes.values()) - set(ROOMS))]:
        module = import_module(f"psr.{room}")
        lines += [f"## psr.{room}", "", (inspect.getdoc(module) or "").split("\n\n")[0], ""]
        for name in (name for name in public if homes[name] == room):
            lines += [*entry(f"psr.{name}", public[name]), ""]
    return "\n".join(lines)


def entry(name: str, value: Any) -> Iterator[str]:
    """A directive that Sphinx knows, with the docstring as its text and a class's own public members below it."""
    kind = "class" if inspect.isclass(value) else "function"
    yield f"``````{{py:{kind}}} {name}{signature(value)}"
    yield f"In `{value.__module__.replace('.', '/')}.py`."
    yield ""
    yield inspect.getdoc(value) or ""
    for member, what in vars(value).items() if kind == "class" else ():
        text = inspect.getdoc(what)
        if text and not member.startswith("_") and hasattr(what, "__get__") and not text.startswith("Alias for field"):
            method = inspect.isfunction(what)
            yield f"\n`````{{py:{'method' if method else 'property'}}} {member}{signature(what) if method else ''}"
            yield f"{text}\n`````"
    yield "``````"


class Bare(str):
    """An annotation as it stands in the code, where a signature would quote it."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(value: Any) -> str:
    """The arguments and what comes back, as written."""
    written = inspect.signature(value)
    named = [one for one in written.parameters.values() if one.name != "self"]
    shown = written.replace(
        parameters=[one.replace(annotation=bare(one.annotation)) for one in named],
        return_annotation=inspect.Signature.empty if inspect.isclass(value) else bare(written.return_annotation),
    )
    return str(shown)


def bare(annotation: Any) -> Any:
    text = getattr(annotation, "__forward_arg__", annotation)
    return Bare(text) if isinstance(text, str) else annotation


PARTS: dict[str, Callable[[], str]] = {"library": library}
