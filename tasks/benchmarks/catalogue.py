"""The benchmarks by name, and their attributes: the public formats of persona vectors, IFEval and AxBench, or one of your own.

The same loaders read the testbed's miniature files and the public ones. An attribute's key is `benchmark/name`, where
`benchmark` is the object's own name, whatever the parameters call it (`persona`, or `my_lab.songs:SONGS`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psr.errors import PsrError
from psr.plugs import checked, plug
from psr.types import Attribute
from tasks.benchmarks.questions import Loaded
from tasks.benchmarks.reading import reader

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark

BENCHMARKS = {
    "persona": "tasks.benchmarks.persona:PERSONA",
    "ifeval": "tasks.benchmarks.ifeval:IFEVAL",
    "axbench": "tasks.benchmarks.axbench:AXBENCH",
}
NEEDS = {
    "name": "the first half of its attributes' keys",
    "load": "reads a folder's attributes",
    "asked": "what the judge rates: whether an answer shows what was asked for",
    "sense": "what the judge rates: whether it makes sense",
    "dimensions": "all that every judge rates",
    "optional": "what some judges rate beyond that",
    "strength": "how strongly a module steers",
    "measures": "the figures that are shown, the main one first",
    "main": "the main measure",
    "package": "of the fit settings",
    "title": "its heading",
    "about": "what its figures are, in a sentence",
    "published": "other people's figures, or None",
}
STRENGTH = {
    "name": "what it is called",
    "asks": "whether modules answer the search questions",
    "unsteered": "whether the plain model and the prompt do too",
    "taken": "how many strengths a module is evaluated at",
    "figures": "the figures that it gives",
    "needs": "the parameters of `search` that it needs",
    "tried": "how many strengths are tried",
    "choose": "chooses on the search questions",
    "measure": "the figures on the evaluation questions",
}


class Chosen(Protocol):
    """A section of the parameters: a benchmark's name or dotted path, its folder, and which of its attributes are wanted, or
    how many of them."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def attributes(self) -> Sequence[str] | int: ...


def benchmark_named(name: str) -> Benchmark:
    """The benchmark called `name`, or the object at a dotted path. Raises PsrError: unknown, or it lacks something.

    Example:
        benchmark_named("persona").dimensions  # ("trait", "coherence")
        benchmark_named("my_lab.songs:SONGS").main.label
    """
    found: Benchmark = plug("benchmark", name, BENCHMARKS, NEEDS)
    checked("strength of a benchmark", name, found.strength, STRENGTH)
    return found


def benchmarks_of(chosen: Iterable[Chosen]) -> dict[str, Benchmark]:
    """The wanted benchmarks by their own name, in order. Raises PsrError where two have one name."""
    found: dict[str, Benchmark] = {}
    for one in chosen:
        benchmark = benchmark_named(one.name)
        if benchmark.name in found:
            raise PsrError("a benchmark is named twice", where=one.name, got=benchmark.name, do="Name it once.")
        found[benchmark.name] = benchmark
    return found


def attributes_of(chosen: Iterable[Chosen]) -> tuple[Attribute, ...]:
    """The wanted attributes of every benchmark, in order. Raises PsrError as `load_attributes` does."""
    return tuple(a for one in chosen for a in load_attributes(one.name, Path(one.path), one.attributes))


def load_attributes(
    benchmark: str, folder: Path | str, names: Sequence[str] | int | None = None, *, cache_dir: Path | str | None = None
) -> tuple[Attribute, ...]:
    """The attributes called `names` (all of them without), in that order, from a benchmark's `folder`.

    A name may be written with or without `benchmark/`; a number is that many, the first ones. cache_dir: where `datasets`
    keeps the parquet files it has read. Questions that stand there twice, or on the fitting side too, are left out, and the
    logger `psr` says how many.
    Raises PsrError: unknown benchmark or attribute (the known ones are listed), fewer attributes than that, a file that is
    missing or damaged, a column that is missing, a value of another type than the format's.
    """
    found, folder = benchmark_named(benchmark), Path(folder)
    if not folder.exists():
        raise PsrError("a benchmark's folder is missing", where=folder, expected=f"the files of {found.name}")
    with tempfile.TemporaryDirectory() as spare:
        read = reader(Path(cache_dir) if cache_dir else Path(spare))
        bare = None if names is None or isinstance(names, int) else [n.removeprefix(f"{found.name}/") for n in names]
        loaded = found.load(folder, bare, read)
    if isinstance(names, int):
        if len(loaded) < names:
            raise PsrError(
                "a benchmark has fewer attributes than asked for", where=folder, expected=names, got=len(loaded)
            )
        loaded = loaded[:names]
    foreign = sorted({attribute.benchmark for attribute, _ in loaded} - {found.name})
    if foreign:
        raise PsrError(
            "a benchmark's attributes have another name than it",
            where=benchmark,
            expected=f"{found.name}/…",
            got=", ".join(foreign),
        )
    _say_left_out(found.name, folder, loaded)
    return tuple(attribute for attribute, _ in loaded)


def _say_left_out(benchmark: str, folder: Path, loaded: Sequence[Loaded]) -> None:
    repeated, fitted = (sum(getattr(sides, name) for _, sides in loaded) for name in ("repeated", "fitted"))
    if repeated or fitted:
        touched = sum(bool(sides.repeated or sides.fitted) for _, sides in loaded)
        logging.getLogger("psr").warning(
            "%s (%s): questions left out of %d of %d attributes: %d that are there twice, %d of search and evaluation that "
            "are for fitting",
            benchmark,
            folder,
            touched,
            len(loaded),
            repeated,
            fitted,
        )
