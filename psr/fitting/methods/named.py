"""Methods by what they are called: psr's own, and those of somebody's package by a dotted path. It imports no torch for psr's.

    method_named("a-psr-mse-qr").trained                # True
    method_named("my_lab.methods:TWICE").method.slug    # "s-const-twice-r"

A path is checked when it is found, before anything starts: what the plug lacks is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from psr.errors import PsrError
from psr.fitting.methods import FAMILIES, METHODS, Learning, MethodPlug, parse_method
from psr.fitting.presets import FitSettings
from psr.plugs import plug
from psr.types import INSTRUCTED, PLAIN, Method, Scope, Span

NEEDS = {
    "method": "a psr.Method: scope, form, objective, span",
    "how": "a psr.fitting.methods.Learning",
    "trained": "whether another seed gives another module",
}
PRESETS = ("paper", "fast")  # an experiment takes one of them
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # the name of a folder, and a word on a command line


def method_named(text: str) -> MethodPlug:
    """The method called `text`: a slug, a printed name, or the dotted path to a MethodPlug in somebody's package.

    Nothing of psr's that needs torch is imported before something is learnt. Raises PsrError: an unknown name, a path
    that leads nowhere, an object that lacks something (what is missing is listed), a slug that is one of psr's own.
    """
    if ":" not in text:
        return plug_of(parse_method(text))
    own = _own_plug(text)
    try:
        parse_method(own.method.slug)
    except PsrError:
        return own
    raise PsrError(
        "a method of psr has this name", where=text, got=own.method.slug, do="Give it another objective's name."
    )


def methods_named(texts: Iterable[str]) -> tuple[MethodPlug, ...]:
    """`method_named` for each. Raises PsrError for two of one slug."""
    plugs: dict[str, MethodPlug] = {}
    for text in texts:
        one = method_named(text)
        if one.method.slug in plugs:
            raise PsrError("a method is named twice", where=text, got=one.method.slug, do="Name it once.")
        plugs[one.method.slug] = one
    return tuple(plugs.values())


def plug_of(method: Method) -> MethodPlug:
    """How psr learns `method`. Raises PsrError where it is none of psr's."""
    for family in FAMILIES:
        if family.has(method):
            return MethodPlug(method, family.how, family.trained)
    raise PsrError(
        "psr has no such method",
        expected="a method of psr, of any rank",
        got=method.name,
        do="Give its plug, which a dotted path names: my_lab.methods:MINE.",
    )


def preset(name: str, objective: str) -> FitSettings:
    """The settings called `name` ("paper" or "fast") of a method with training, by its objective: "MSE", "LL", "ReFT-r1", …

    Raises PsrError that lists the known ones.
    """
    trained: dict[str, MethodPlug] = {}
    for one in map(plug_of, METHODS):
        if one.trained:
            trained.setdefault(one.method.objective, one)
    presets = trained[objective].learning.presets if objective in trained else {}
    if name not in presets:
        every = f"paper or fast, of {', '.join(trained)}"
        raise PsrError("unknown preset", expected=every, got=f"{name} {objective}", do="Correct the name.")
    return presets[name]


def _own_plug(path: str) -> MethodPlug:
    """The plug at `path`, such as "my_lab.methods:TWICE". Raises PsrError, with the reason, where it keeps no contract."""
    loaded = plug("method", path, {}, NEEDS)
    if not isinstance(loaded.method, Method):
        raise PsrError("this is no method", where=path, expected=NEEDS["method"], got=type(loaded.method).__name__)
    own = MethodPlug(loaded.method, loaded.how, bool(loaded.trained), path)
    _check_method(path, own.method)
    _check_learning(path, own.learning, own.trained)
    return own


def _check_method(path: str, method: Method) -> None:
    from psr.steering.forms import form_named

    _one_of(path, "scope", method.scope, get_args(Scope))
    _one_of(path, "span", method.span, get_args(Span))
    if not SLUG.fullmatch(method.slug):
        raise PsrError(
            "a method's name has letters, digits and single hyphens", where=path, expected="such as s-const-twice-r",
            got=method.slug, do="Correct the name of its objective.",
        )  # fmt: skip
    try:
        if not method.adapts:
            form_named(method.form)
    except PsrError as error:
        raise PsrError(error.what, where=path, expected=error.expected, got=error.got) from None


def _check_learning(path: str, learning: Learning, trained: bool) -> None:
    for one in learning.reads:
        _one_of(path, "reads", one, (INSTRUCTED, PLAIN))
    if not callable(learning.learn):
        raise PsrError("this is no method", where=f"{path}, learn", expected="a function", got=repr(learning.learn))
    expected = PRESETS if trained else ()
    if set(learning.presets) != set(expected):
        raise PsrError(
            "a method with training has presets, and one without has none",
            where=path,
            expected=f"presets {' and '.join(expected) or 'none'}, as trained is {trained}",
            got=", ".join(learning.presets) or "none",
        )


def _one_of(path: str, name: str, got: Any, known: Sequence[str]) -> None:
    if got not in known:
        raise PsrError(
            "this is no method", where=f"{path}, {name}", expected=f"one of {', '.join(known)}", got=repr(got)
        )
