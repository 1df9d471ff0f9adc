"""Benchmarks as attributes: the public formats of persona vectors, IFEval and AxBench, read through `datasets`.

The same loaders read the testbed's miniature files and the public ones. Nothing is fetched: `datasets` is handed
local files, and its cache lies in a folder that is given or thrown away.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from psr.errors import PsrError
from psr.types import Attribute
from tasks import axbench, ifeval, persona

Rows = list[dict[str, Any]]
Format = Literal["json", "parquet"]
BENCHMARKS = {"persona": persona, "ifeval": ifeval, "axbench": axbench}


class Chosen(Protocol):
    """A benchmark's name, its folder, and which of its attributes are wanted."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def attributes(self) -> Sequence[str]: ...


def attributes_of(benchmarks: Iterable[Chosen]) -> tuple[Attribute, ...]:
    """The wanted attributes of every benchmark, in order. Raises PsrError as `load_attributes` does."""
    return tuple(a for chosen in benchmarks for a in load_attributes(chosen.name, Path(chosen.path), chosen.attributes))


def load_attributes(
    benchmark: str, folder: Path | str, names: Sequence[str] | None = None, *, cache_dir: Path | str | None = None
) -> tuple[Attribute, ...]:
    """The attributes called `names` (all of them without), in that order, from a benchmark's `folder`.

    A name may be written with or without `benchmark/`. Raises PsrError: unknown benchmark or attribute (the known ones
    are listed), a file that is missing or damaged, a column that is missing.
    """
    if benchmark not in BENCHMARKS:
        raise PsrError("unknown benchmark", expected=f"one of {', '.join(BENCHMARKS)}", got=repr(benchmark))
    folder = Path(folder)
    if not folder.exists():
        raise PsrError("a benchmark's folder is missing", where=folder, expected=f"the files of {benchmark}")
    with tempfile.TemporaryDirectory() as spare:
        read = reader(Path(cache_dir) if cache_dir else Path(spare))
        wanted = None if names is None else [name.removeprefix(f"{benchmark}/") for name in names]
        return BENCHMARKS[benchmark].attributes(folder, wanted, read)


def reader(cache: Path) -> Callable[[Path, Format, Sequence[str]], Rows]:
    """A function that reads one file's rows through `datasets` and checks that the columns are there."""

    def read(path: Path, kind: Format, columns: Sequence[str]) -> Rows:
        rows = _rows(path, kind, cache)
        missing = [column for column in columns if column not in rows[0]]
        if missing:
            raise PsrError("a benchmark's file lacks a column", where=path, expected=", ".join(columns),
                           got=f"no {', '.join(missing)}")
        return rows

    return read


def _rows(path: Path, kind: Format, cache: Path) -> Rows:
    """`Dataset.from_json` and not `load_dataset`: the latter counts its calls at a server on the network."""
    import datasets

    if not path.is_file():
        raise PsrError("a benchmark's file is missing", where=path, expected=f"a {kind} file")
    load = datasets.Dataset.from_json if kind == "json" else datasets.Dataset.from_parquet
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        rows = load([str(path)], cache_dir=str(cache)).to_list()
    except Exception as error:  # pyarrow's, datasets' and json's own types, and StopIteration for an empty file
        raise PsrError("a benchmark's file cannot be read", where=path, expected=f"a {kind} file with rows",
                       got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    if not rows:
        raise PsrError("a benchmark's file is empty", where=path, expected="at least one row")
    return rows
