"""The parameters of a run: params.yaml's defaults, its profile's differences, and `--set`; all checked.

    params.yaml      defaults: a value for every key; profiles: what differs, a block a profile. The defaults alone are `quick`
    data/PROFILE/settings.yaml      the resolved parameters, with the code's defaults and a hash of every input that the
                                    profile names: DVC compares it, and steps read it

A profile is added as one block below `profiles`, and nothing else. One that says `like: OTHER` differs from OTHER instead of from
the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from flows.sections import Model, Profile
from psr.errors import PsrError
from psr.lm.hub import HUB_ID
from psr.plugs import nearest
from tasks.engine.files import write_text
from tasks.engine.inputs import plug_code
from tasks.engine.lockfiles import SETTINGS
from tasks.models import smollm2

FILE = "params.yaml"
DEFAULT_PROFILE = "quick"  # the defaults alone
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
ANY_OF = re.compile(r"\w+\[|constrained-")  # how pydantic calls one of several types that a key may have
RESERVED = ("testbed", "benchmarks", "profiles", "models", "results.duckdb")  # other names in data/
INPUTS, PLUGS = "inputs", "plugs"  # further sections of settings.yaml, which no step gets
LIKE = "like"  # the key by which a profile names the one that it differs from


def load(root: Path, profile: str, changes: Sequence[str] = ()) -> Profile:
    """The parameters of `profile` in params.yaml of `root`, then `changes` ("distill.epochs=6").

    Raises PsrError, which lists the valid names: an unknown profile, key, method, benchmark or judge, a value of another
    type, a name used twice.
    """
    where = f"{FILE}, profile {profile}" + (f", --set {' '.join(changes)}" if changes else "")
    values: dict[str, Any] = {}
    for block in _blocks(root / FILE, profile):
        values = _merged(values, block)
    for change in changes:
        _set(values, change)
    return _validated(values, where)


def write_settings(root: Path, profile: str, settings: Profile, content: Callable[[str], str]) -> None:
    """Write data/PROFILE/settings.yaml. content(path): the hash of an input file or folder."""
    methods = [*settings.methods, *(m for one in settings.benchmarks for m in one.methods or ())]
    values = {
        **settings.model_dump(
            mode="json", exclude={"extract": {"budget"}}
        ),  # it has chosen `keep`, which is what counts
        INPUTS: {
            "model": _model_content(settings.model, content),
            "benchmarks": {one.name: content(one.path) for one in settings.benchmarks},
        },
        PLUGS: {
            "benchmarks": plug_code(one.name for one in settings.benchmarks),
            "judge": plug_code([settings.judge.name]),
            "methods": plug_code(methods),
        },
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    path = root / SETTINGS.format(profile=profile)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _model_content(model: Model, content: Callable[[str], str]) -> str:
    if model.revision is not None:
        return model.revision
    try:
        return content(model.path)
    except PsrError as error:
        if Path(model.path) == smollm2.FOLDER:
            do = "Run `python -m flows.fetch smollm2`."
        elif HUB_ID.fullmatch(model.path):
            do = "Put it there, or say which commit of the hub's model is meant: --set model.revision=COMMIT (40 hex digits)."
        else:
            raise
        raise PsrError(error.what, where=error.where, expected=error.expected, got=error.got, do=do) from None


def written(root: Path, profile: str) -> Profile:
    """The parameters in data/PROFILE/settings.yaml, which steps use. Raises PsrError where the file is missing."""
    file = SETTINGS.format(profile=profile)
    values = _read(root / file, "the settings of a profile")
    return _validated({name: value for name, value in values.items() if name not in (INPUTS, PLUGS)}, file)


def profiles(root: Path) -> tuple[str, ...]:
    """The name of every profile, the default first. Raises PsrError as `load` does for a damaged file."""
    return DEFAULT_PROFILE, *_sections(root / FILE)[1]


def section_names() -> tuple[str, ...]:
    """Every section a profile has, in the file's order."""
    return tuple(Profile.model_fields)


def _sections(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The defaults and the profiles of params.yaml."""
    values = _read(file, "the parameters")
    others = values.get("profiles") or {}
    if (
        set(values) - {"defaults", "profiles"}
        or not isinstance(values.get("defaults"), dict)
        or not isinstance(others, dict)
    ):
        raise PsrError(
            "the parameters have another layout",
            where=file.name,
            expected="`defaults` with every section, and `profiles` with a block a profile",
            got=", ".join(map(str, values)),
        )
    for name in others:
        if not NAME.fullmatch(str(name)) or name in (*RESERVED, DEFAULT_PROFILE):
            raise PsrError(
                "a profile cannot have this name",
                where=file.name,
                expected=f"letters, digits, . _ - and none of {', '.join((DEFAULT_PROFILE, *RESERVED))}",
                got=repr(name),
            )
    return values["defaults"], others


def _blocks(file: Path, profile: str) -> list[dict[str, Any]]:
    """What makes up a profile, each block before those that change it: the defaults, what it is like, its own."""
    defaults, others = _sections(file)
    names = (DEFAULT_PROFILE, *others)
    blocks: list[dict[str, Any]] = []
    seen: list[str] = []
    while True:
        if profile not in names:
            raise PsrError(
                "unknown profile",
                where=f"{file.name}, profile {seen[-1]}, {LIKE}" if seen else file.name,
                expected=f"one of {', '.join(nearest(profile, names))}",
                got=repr(profile),
            )
        block = others.get(profile) or {}
        if not isinstance(block, dict):
            raise PsrError(
                "a profile is no block of sections", where=f"{file.name}, profile {profile}", got=_short(block)
            )
        seen.append(profile)
        blocks.insert(0, {name: value for name, value in block.items() if name != LIKE})
        if LIKE not in block:
            return [defaults, *blocks]
        profile = str(block[LIKE])
        if profile in seen:
            raise PsrError("a profile is like itself", where=file.name, got=" → ".join([*seen, profile]))


def _merged(defaults: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with `difference`: sections are merged key by key, lists are replaced."""
    return {**defaults} | {
        name: _merged(defaults[name], value)
        if isinstance(value, dict) and isinstance(defaults.get(name), dict)
        else value
        for name, value in difference.items()
    }


def _set(values: dict[str, Any], change: str) -> None:
    """Apply one change in place: SECTION.KEY=VALUE, the value in YAML; entries of a list by their number."""
    name, equals, text = change.partition("=")
    *above, last = name.strip().split(".")
    if not equals:
        raise PsrError("nothing can be set by this", where="--set", expected="SECTION.KEY=VALUE", got=repr(change))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise PsrError("the value is no YAML", where="--set", got=repr(change)) from None
    inner: Any = values
    for key in above:
        keys = (
            list(map(str, range(len(inner))))
            if isinstance(inner, list)
            else list(inner)
            if isinstance(inner, dict)
            else []
        )
        if key not in keys:
            raise PsrError(
                "unknown parameter", where="--set", expected=f"one of {', '.join(nearest(key, keys))}", got=repr(name)
            )
        if isinstance(inner, list):
            inner[int(key)] = inner[int(key)].copy() if isinstance(inner[int(key)], dict) else inner[int(key)]
            inner = inner[int(key)]
        else:
            inner[key] = inner[key].copy() if isinstance(inner[key], dict | list) else inner[key]
            inner = inner[key]
    if isinstance(inner, dict):
        inner[last] = value
    elif isinstance(inner, list) and last.isdecimal() and int(last) < len(inner):
        inner[int(last)] = value
    else:
        raise PsrError("unknown parameter", where="--set", got=repr(name))


class _Unique(yaml.SafeLoader):
    """A YAML loader that refuses a key that a mapping names twice; SafeLoader silently takes the second."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice!r} is there twice, line {node.start_mark.line + 1} on")
        return super().construct_mapping(node, deep)


def _read(file: Path, what: str) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_Unique)  # noqa: S506 - a safe one
    except FileNotFoundError:
        raise PsrError(f"{what} are missing", where=file, do="Run from a checkout of the repository.") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise PsrError(f"{what} are no valid YAML", where=file.name, got=" ".join(str(error).split())) from None
    if not isinstance(values, dict) or not values:
        raise PsrError(f"{what} are no sections", where=file.name, expected="a mapping of sections")
    return values


def _validated(values: Mapping[str, Any], where: str) -> Profile:
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors(include_url=False))
        raise PsrError(problems, where=where, do="Correct it.") from None
    except PsrError as error:  # from a plug: pydantic does not wrap it
        location = ", ".join(part for part in (where, error.where) if part)
        raise PsrError(error.what, where=location, expected=error.expected, got=error.got, do=error.do) from None


def _problem(detail: Any) -> str:
    loc, kind = detail["loc"], detail["type"]
    name = ".".join(part for part in map(str, loc) if not ANY_OF.match(part))
    if kind == "extra_forbidden":
        return f"unknown parameter {name}, expected one of {', '.join(nearest(str(loc[-1]), _fields_at(loc[:-1])))}"
    if kind == "missing":
        return f"missing parameter {name}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}, got {_short(detail['input'])}"


def _fields_at(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys that the section at path `loc` may have."""
    section: Any = Profile
    for step in loc:
        section = get_args(section)[0] if isinstance(step, int) else section.model_fields[step].annotation
    return tuple(section.model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
