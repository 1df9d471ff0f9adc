"""The parts of the reference that follow from the code, as Markdown."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml

import psr
import psr.cli
from flows.sections import Profile
from tasks.shown.tables import Table, markdown

ROOT = Path(__file__).resolve().parents[1]
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
os.environ["COLUMNS"] = "88"  # of commands' help
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


def parameters() -> str:
    """Every section of params.yaml and its keys, as flows/sections.py has them, with the values of the defaults."""
    lines, defaults = [], yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["defaults"]
    for section, field in Profile.model_fields.items():
        model, listed = _section(field.annotation)
        values = defaults[section]
        lines += [f"## {section}", "", inspect.getdoc(model) if model else field.description or "", ""]
        if listed:
            lines += ["A list, an entry for each:", ""]
            values = values[0]
        if model:
            rows = [
                (f"`{key}`", _kind(one), _default(values.get(key, one.default)), one.description or "")
                for key, one in model.model_fields.items()
            ]
            lines += [markdown(Table(("key", "value", "default", "what it sets"), rows, "llll")), ""]
        else:
            lines += [f"Value: {_kind(field)}. Default: {_default(values)}.", ""]
    return "\n".join(lines)


def _section(annotation: Any) -> tuple[Any, bool]:
    """The section that a field of a profile is, and whether it is a list of them; None where it is a plain value."""
    args = [arg for arg in get_args(annotation) if hasattr(arg, "model_fields")]
    return (args[0], True) if args else (annotation if hasattr(annotation, "model_fields") else None, False)


def _kind(field: Any) -> str:
    """The type and the bounds of a key, in words."""
    bounds = [f"{word} {value}" for word, value in _bounds(field)]
    return ", ".join([_words(field.annotation), *bounds])


def _bounds(field: Any) -> Iterator[tuple[str, Any]]:
    held = [*field.metadata, *(part for arg in get_args(field.annotation) for part in getattr(arg, "__metadata__", ()))]
    for one in held:
        for inner in [one, *getattr(one, "metadata", ())]:
            for name, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
                if getattr(inner, name, None) is not None:
                    yield word, getattr(inner, name)


def _words(annotation: Any) -> str:
    """A type in words: `int | None` is "a whole number or null"."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(args[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in args)
    if origin is tuple:
        return f"a list of {_words(args[0]).removeprefix('a ')}s".replace("texts", "text")
    if origin is dict:
        return "a mapping"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(arg) for arg in args))
    return WORDS.get(annotation, str(annotation))


def _default(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def commands() -> str:
    """The help of every command."""
    lines = []
    for file in sorted((ROOT / "flows").glob("*.py")):
        if "__main__" in file.read_text(encoding="utf-8"):
            module = import_module(f"flows.{file.stem}")
            lines += [f"## python -m flows.{file.stem}", "", inspect.getdoc(module) or "", ""]
            if hasattr(module, "argparse"):
                lines += ["```text", _printed("-m", f"flows.{file.stem}", "--help").rstrip(), "```", ""]
    app = typer.main.get_command(psr.cli.app)
    for name, command in app.commands.items():  # type: ignore[attr-defined]
        with command.make_context(name, [], resilient_parsing=True, terminal_width=88) as context:
            context.info_name = f"psr {name}"
            lines += [f"## psr {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def tables() -> str:
    """Every view with a line for each column, then the tables that they are made from."""
    lines = []
    schema = "import json; from tasks.shown.index import schema; print(json.dumps(schema()))"
    for name, comment, columns in json.loads(_printed("-c", schema)):
        lines += [f"### {name}", "", comment, ""]
        rows = [(f"`{column}`", kind.lower(), about) for column, kind, about in columns]
        if any(about for *_, about in rows):
            lines += [markdown(Table(("column", "type", "what it holds"), rows, "lll")), ""]
        else:
            lines += [", ".join(f"`{column}`" for column, *_ in columns), ""]
    return "\n".join(lines)


def _printed(*arguments: str) -> str:
    """What Python prints in a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


PARTS: dict[str, Callable[[], str]] = {
    "library": library,
    "parameters": parameters,
    "commands": commands,
    "tables": tables,
}
