"""Judges for the pipeline: by a name that is registered here, or by the dotted path to one's own.

A judge is a frozen dataclass. Its first two fields are what it is to judge, `benchmark` and `attributes` (key ->
Attribute); every further field is a setting of its own with a type and a default, which params.yaml may set beside its
name, but those with `metadata={"setting": False}`. Its instances are judges as `psr.judges.judging.Judge` has them, with
one more method: `refuses(attribute)` says why an attribute cannot be judged, or nothing where it can. That is asked before
anything starts.

A judge that has to see answers of the model first has two methods more, `calibrate` and `ready` (tasks/asking/calibration.py).
One that asks a language model has `calls_per_item`, the questions that it asks about an answer, and may have two such fields
that are no settings: `answers`, which keeps what was answered, and `key_of`, which knows an endpoint's key (tasks/asking/kept.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.plugs import nearest, plug
from psr.types import Attribute

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark

JUDGES = {
    "testbed": "psr.testbed.judges:TestbedJudge",
    "rules": "psr.judges.rules:RulesJudge",
    "likelihood": "psr.judges.likelihoods:Likelihoods",
    "openai": "psr.judges.endpoint:OpenAIJudge",
    "local": "psr.judges.local:LocalJudge",
}
GIVEN = ("benchmark", "attributes")  # fields that are no settings
NEEDS = {
    "id": "its name in tables",
    "rubric": "the version of its questions",
    "dimensions": "what it rates",
    "refuses": "why it cannot judge an attribute",
}


def judge_named(name: str) -> Callable[..., Judge]:
    """The class of the judge called `name`. Raises PsrError where there is none, or where it is no judge."""
    judge = plug("judge", name, JUDGES, {})
    if not inspect.isclass(judge) or not is_dataclass(judge) or [f.name for f in fields(judge)][:2] != list(GIVEN):
        raise PsrError(
            "this is no judge",
            where=name,
            expected=f"a dataclass whose first fields are {' and '.join(GIVEN)}",
            got=repr(judge)[:60],
        )
    missing = [f"{attribute} ({what})" for attribute, what in NEEDS.items() if not hasattr(judge, attribute)]
    if not any("__call__" in vars(base) for base in judge.__mro__):
        missing.append("__call__ (judges a batch of items)")
    bare = [field.name for field in _settings(judge) if field.default is field.default_factory is MISSING]
    if missing or bare:
        lacks = [*missing, *(f"a default for its setting {setting}" for setting in bare)]
        raise PsrError("this is no judge", where=name, got=f"a class without {', '.join(lacks)}")
    return cast(Callable[..., Judge], judge)


def judge_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the judge called `name`: those that are `given`, checked by their types, and its own defaults.

    Raises PsrError: as `judge_named`, an unknown setting, a value of another type.
    """
    judge = judge_named(name)
    settings = {field.name: field for field in _settings(judge)}
    for setting in given:
        if setting not in settings:
            known = ", ".join(nearest(setting, settings)) or "none, this judge has no settings"
            raise PsrError(f"unknown setting of judge {name}", expected=known, got=repr(setting))
    hints = get_type_hints(judge)
    return {setting: _value(name, field, hints[setting], given) for setting, field in settings.items()}


def judges_named(attributes: Sequence[Attribute], name: str, **settings: Any) -> dict[str, Judge]:
    """benchmark -> the judge called `name`, with its settings, of the answers for the benchmark's attributes."""
    judge = judge_named(name)
    return {
        benchmark: judge(benchmark, {a.key: a for a in attributes if a.benchmark == benchmark}, **settings)
        for benchmark in dict.fromkeys(attribute.benchmark for attribute in attributes)
    }


def judges_by_attribute(attributes: Iterable[Attribute], name: str, **settings: Any) -> dict[str, Judge]:
    """attribute key -> the judge called `name` of this attribute alone: small enough to be sent to a worker."""
    return {one.key: judges_named([one], name, **settings)[one.benchmark] for one in attributes}


def check_judges(
    judges: Mapping[str, Judge], attributes: Iterable[Attribute], benchmarks: Mapping[str, Benchmark]
) -> None:
    """Raise PsrError where a judge lacks a dimension that its benchmark needs, or refuses an attribute: all of them, each
    with its reason. benchmarks: by their own name."""
    refused = {}
    for attribute in attributes:
        judge = judges[attribute.benchmark]
        needed = benchmarks[attribute.benchmark].dimensions
        lacking = [name for name in needed if name not in judge.dimensions]
        if lacking:
            raise PsrError(
                f"the judge {judge.id} does not rate what {attribute.benchmark} is judged on",
                expected=", ".join(needed),
                got=", ".join(judge.dimensions),
                do="Choose another judge.",
            )
        if reason := judge.refuses(attribute):  # type: ignore[attr-defined]
            refused[attribute.key] = f"{attribute.key} ({reason})"
    if refused:
        raise PsrError(
            "these attributes cannot be judged",
            where=f"judge {judge.id}",
            got="; ".join(refused.values()),
            do="Leave them out, or choose another judge.",
        )


def _settings(judge: Any) -> list[Field[Any]]:
    own = [field for field in fields(judge) if field.name not in GIVEN and field.init]
    return [field for field in own if field.metadata.get("setting", True)]


def _value(judge: str, field: Field[Any], hint: Any, given: Mapping[str, Any]) -> Any:
    if field.name not in given:
        return field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc, operator]
    try:
        return TypeAdapter(hint).validate_python(given[field.name])
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]["msg"]
        raise PsrError(
            f"a setting of judge {judge} has another type",
            where=field.name,
            expected=f"{wrong[:1].lower()}{wrong[1:]}",
            got=repr(given[field.name])[:60],
        ) from None
