"""Judges by the name that parameters give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psr.errors import PsrError
from psr.judging import Judge


def judge_named(name: str, benchmark: str, folder: Path, attributes: Sequence[str]) -> Judge:
    """The judge called `name` for the `attributes` of a benchmark whose files lie in `folder`."""
    if name != "testbed":
        raise PsrError("unknown judge", expected="testbed", got=repr(name))
    from psr.testbed.judges import TestbedJudge

    if benchmark == "persona":  # the grammar knows its traits by name; the others' rules stand in the files
        return TestbedJudge(benchmark)
    from tasks.benchmarks import load_attributes

    return TestbedJudge(benchmark, {a.key: a for a in load_attributes(benchmark, folder, attributes)})
