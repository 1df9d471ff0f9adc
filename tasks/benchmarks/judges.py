"""Judges by the name that parameters give them."""

from __future__ import annotations

from collections.abc import Sequence

from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.types import Attribute


def judges_named(name: str, attributes: Sequence[Attribute]) -> dict[str, Judge]:
    """benchmark -> the judge called `name` of its attributes' answers."""
    if name != "testbed":
        raise PsrError("unknown judge", expected="testbed", got=repr(name))
    from psr.testbed.judges import TestbedJudge

    return {
        benchmark: TestbedJudge(benchmark, {a.key: a for a in attributes if a.benchmark == benchmark})
        for benchmark in dict.fromkeys(attribute.benchmark for attribute in attributes)
    }
