"""A benchmark's files row by row, each value checked against the format's columns: another type is refused, never converted.

JSON is therefore read as it stands (`datasets` makes a time of text that looks like one, and fails on a list of several
types); parquet, which names its types, is read through `datasets`. Nothing is fetched: `datasets` is handed local files, and
its cache lies in a folder that is given or thrown away.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from psr.errors import PsrError

Rows = list[dict[str, Any]]
Format = Literal["json", "parquet"]
Read = Callable[[Path, Format, Mapping[str, Any]], Rows]  # a file, its kind, and its columns: name -> type
WORDS = {str: "text", int: "a whole number", float: "a number", None: "nothing"}


def reader(cache: Path) -> Read:
    """A function that reads one file's rows and checks them against the format's columns: name -> type (see `_misfit`)."""

    def read(path: Path, kind: Format, columns: Mapping[str, Any]) -> Rows:
        if not path.is_file():
            raise PsrError("a benchmark's file is missing", where=path, expected=f"a {kind} file")
        rows = _json_rows(path) if kind == "json" else _parquet_rows(path, cache)
        if not rows:
            raise PsrError("a benchmark's file is empty", where=path, expected="at least one row")
        needed = [name for name, wanted in columns.items() if _misfit(None, wanted, name)]
        for number, row in enumerate(rows, 1):
            where = path if len(rows) == 1 else f"{path}, row {number}"
            missing = [name for name in needed if name not in row]
            if missing:
                raise PsrError(
                    "a benchmark's file lacks a column",
                    where=where,
                    expected=", ".join(needed),
                    got=f"no {', '.join(missing)}",
                )
            for name, wanted in columns.items():
                if misfit := _misfit(row.get(name), wanted, name):
                    raise PsrError(
                        "a benchmark's file has another layout",
                        where=f"{where}, {misfit[0]}",
                        expected=_words(misfit[1]),
                        got=_shown(misfit[2]),
                    )
        return rows

    return read


def _misfit(value: Any, wanted: Any, place: str) -> tuple[str, Any, Any] | None:
    """(place, type, value) of the first part of `value` that is of another type than `wanted`; None where all fits.

    wanted: a type; None for nothing; [type] for a list; {key: type} for an object with these keys, and {str: type} for one
    with any; a tuple of these where several are right. A missing key holds nothing. A float may be whole, and no truth
    value is a number.
    """
    if isinstance(wanted, tuple):
        found = [_misfit(value, one, place) for one in wanted]
        deepest = max((bad for bad in found if bad), key=lambda bad: len(bad[0]), default=None)
        if deepest is None or None in found:
            return None
        return deepest if deepest[0] != place else (place, wanted, value)
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(wanted, list):
        good = isinstance(value, list)
        parts = [(one, wanted[0], f"{place}[{i}]") for i, one in enumerate(value)] if good else []
    elif isinstance(wanted, dict):
        good = isinstance(value, dict)
        inner = dict.fromkeys(value, wanted[str]) if good and str in wanted else wanted
        parts = [(value.get(key), kind, f"{place}.{key}") for key, kind in inner.items()] if good else []
    else:
        kinds = (int, float) if wanted is float else wanted or type(None)
        good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good:
        return place, wanted, value
    return next((bad for part in parts if (bad := _misfit(*part))), None)


def _words(wanted: Any) -> str:
    """A type as errors name it, as in `[{pos: text}]`."""
    if isinstance(wanted, tuple):
        return " or ".join(map(_words, wanted))
    if isinstance(wanted, list):
        return f"[{_words(wanted[0])}]"
    if isinstance(wanted, dict):
        return "{" + ", ".join(f"{'name' if key is str else key}: {_words(kind)}" for key, kind in wanted.items()) + "}"
    return WORDS[wanted]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_rows(path: Path) -> Rows:
    """The rows of a file that is one object, a list of objects, or an object a line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _parsed(text)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, "json", error) from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise PsrError(
                "a benchmark's file has another layout",
                where=f"{path}, row {number}",
                expected="an object",
                got=_shown(row),
            )
    return rows


def _parsed(text: str) -> list[Any]:
    """Raises ValueError: of the whole text, or of the line that is no JSON where others before it are."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as whole:
        rows: list[Any] = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg}") if rows else whole from None
        if not rows:
            raise
        return rows
    return found if isinstance(found, list) else [found]


def _parquet_rows(path: Path, cache: Path) -> Rows:
    """`Dataset.from_parquet` and not `load_dataset`: the latter counts its calls at a server on the network."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet([str(path)], cache_dir=str(cache)).to_list()
    except Exception as error:  # pyarrow's and datasets' own types, and StopIteration for an empty file
        raise _unreadable(path, "parquet", error) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _unreadable(path: Path, kind: Format, error: Exception) -> PsrError:
    said = str(error).splitlines()[0] if str(error) else ""
    return PsrError(
        "a benchmark's file cannot be read",
        where=path,
        expected=f"a {kind} file with rows",
        got=f"{type(error).__name__}: {said}",
    )
