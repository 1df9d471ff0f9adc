"""Plugs: what is found by its name, or by the dotted path to an object in somebody's own package.

    plug("judge", "testbed", JUDGES, needs)                   one of ours, imported when it is asked for
    plug("judge", "my_lab.judges:Strict", JUDGES, needs)      the object `Strict` of the module `my_lab.judges`

A plug that lacks something of its contract is refused here, before anything starts. No code of ours is found by guessing:
a name without a colon is one of those that are registered.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from psr.errors import PsrError

PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def plug(kind: str, name: str, registered: Mapping[str, str], needs: Mapping[str, str]) -> Any:
    """The object called `name`: a name of `registered` (name -> dotted path), or a dotted path itself.

    kind: what errors call it, such as "judge". needs: attribute -> what it is, of everything that the object must have.
    Raises PsrError: an unknown name (the known ones, nearest first), a path that cannot be imported, an object that is not
    there or lacks something (what is missing is listed).

    Example:
        plug("benchmark", "my_lab.songs:SONGS", {}, {"load": "reads the attributes"})
    """
    path = registered.get(name, name)
    if ":" not in path:
        raise PsrError(
            f"unknown {kind}",
            expected=f"one of {', '.join(nearest(name, registered))}, or a dotted path such as my_lab.{kind}s:Mine",
            got=repr(name),
        )
    if not PATH.fullmatch(path):
        raise PsrError(f"the path to a {kind} is no dotted path", expected="package.module:name", got=repr(name))
    module, _, attribute = path.partition(":")
    try:
        imported = import_module(module)
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise PsrError(
            f"the {kind} cannot be imported",
            where=name,
            got=f"{type(error).__name__}: {error}",
            do="Correct the path, or install the package that holds it.",
        ) from error
    if not hasattr(imported, attribute):
        known = [known for known in vars(imported) if not known.startswith("_")]
        raise PsrError(
            f"the module has no such {kind}",
            where=module,
            expected=f"one of {', '.join(nearest(attribute, known)[:5])}",
            got=repr(attribute),
        )
    return checked(kind, name, getattr(imported, attribute), needs)


def checked(kind: str, name: str, found: Any, needs: Mapping[str, str]) -> Any:
    """`found` itself. Raises PsrError that lists what it lacks of `needs`."""
    missing = [f"{attribute} ({what})" for attribute, what in needs.items() if not hasattr(found, attribute)]
    if missing:
        raise PsrError(f"this is no {kind}", where=name, got=f"{type(found).__name__} without {', '.join(missing)}")
    return found


def nearest(text: str, known: Iterable[str]) -> list[str]:
    """The known names, those that are most like `text` first."""
    return sorted(known, key=lambda name: -difflib.SequenceMatcher(None, text.lower(), name.lower()).ratio())
