"""Parquet in and out: the frozen types of `psr.types` as typed, byte-deterministic files.

Equal rows give equal bytes (the early cut-off of DVC needs that). A file is written aside and moved into place, so
that a reader never meets half of one. Damaged or foreign files raise PsrError with the file's name.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from psr.errors import PsrError
from psr.types import Completion, CurvePoint, Dropped, Judgement, PromptPair, Triplet
from tasks.tables.schemas import SCHEMAS

Row = Mapping[str, Any]
T = TypeVar("T")
REMEDY = "Delete it and run the stage again, or fetch it with `dvc checkout`."


def write_parquet(path: Path | str, rows: Iterable[Any], schema: pa.Schema) -> Path:
    """Write `rows` (mappings or frozen records, in the order given) with exactly the columns of `schema`.

    Raises PsrError when a row lacks a column, holds another type, or is None where the schema forbids it.
    """
    path = Path(path)
    table = _table([_as_row(row, schema, path) for row in rows], schema, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, part, compression="zstd", version="2.6")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_parquet(
    path: Path | str, schema: pa.Schema | None = None, where: Mapping[str, Iterable[Any]] | None = None
) -> list[dict[str, Any]]:
    """The rows of a parquet file; with `schema`, exactly its columns. where: column -> the values that it may have.

    Raises PsrError: missing, damaged, foreign."""
    path = Path(path)
    if not path.is_file():
        raise PsrError(
            "a table is missing",
            where=path,
            expected="a parquet file",
            do="Run the stage that writes it, or fetch it with `dvc pull`.",
        )
    try:
        table = pq.read_table(path, partitioning=None, filters=_filters(where or {}))
    except (pa.ArrowException, OSError) as error:
        raise PsrError(
            "a table is damaged", where=path, expected="a parquet file", got=_first_line(error), do=REMEDY
        ) from error
    return (table if schema is None else _conform(table, schema, path)).to_pylist()


def write_table(path: Path | str, name: str, rows: Iterable[Any]) -> Path:
    """Write `rows` as the table called `name` (see tasks.tables.schemas)."""
    return write_parquet(path, rows, SCHEMAS[name])


def read_table(path: Path | str, name: str, where: Mapping[str, Iterable[Any]] | None = None) -> list[dict[str, Any]]:
    """Read the table called `name` (see tasks.tables.schemas), or the rows `where` columns have given values: of a large table
    a small part in a small memory."""
    return read_parquet(path, SCHEMAS[name], where)


def write_pairs(path: Path | str, pairs: Iterable[PromptPair], question_set: str, instruction_set: str) -> Path:
    """question_set: fit, search or evaluate; instruction_set: fit or held_out."""
    sets = {"question_set": question_set, "instruction_set": instruction_set}
    return write_table(
        path, "pairs", [{**_fields(pair, ("id", "attribute", "question", "instruction")), **sets} for pair in pairs]
    )


def read_pairs(path: Path | str, attribute: str | None = None) -> tuple[PromptPair, ...]:
    """The pairs of a file, of one attribute or of all, checked against their ids."""
    where = None if attribute is None else {"attribute": [attribute]}
    return _records(path, "pairs", lambda r: PromptPair(r["attribute"], r["question"], r["instruction"]), where)


def write_completions(path: Path | str, completions: Iterable[Completion]) -> Path:
    """One row per completion, in the order given."""
    return write_table(path, "completions", completions)


def read_completions(path: Path | str, pairs: Iterable[str] | None = None) -> tuple[Completion, ...]:
    """The completions of a file, of these pairs or of all, checked against their ids."""
    where = None if pairs is None else {"pair": pairs}
    return _records(
        path, "completions", lambda r: Completion(**{**_without_id(r), "token_ids": tuple(r["token_ids"])}), where
    )


def write_judgements(path: Path | str, judgements: Iterable[Judgement]) -> Path:
    """One row per judgement; a failed one keeps its None."""
    return write_table(path, "judgements", judgements)


def read_judgements(path: Path | str) -> tuple[Judgement, ...]:
    """The judgements of a file, checked against their ids."""
    return _records(path, "judgements", lambda r: Judgement(**_without_id(r)))


def write_triplets(path: Path | str, triplets: Iterable[Triplet]) -> Path:
    """One row per triplet: the ids of its pair and completion, and its soft labels."""
    return write_table(path, "triplets", triplets)


def read_triplets(
    path: Path | str, pairs: Iterable[PromptPair], completions: Iterable[Completion], *, others: bool = False
) -> tuple[Triplet, ...]:
    """The triplets of a file, joined with their pairs and completions. Raises PsrError when one is absent. others: the file
    holds those of other pairs too, which are left out."""
    by_pair, by_completion = {pair.id: pair for pair in pairs}, {answer.id: answer for answer in completions}

    def build(row: Row) -> Triplet:
        try:
            pair, answer = by_pair[row["pair"]], by_completion[row["completion"]]
        except KeyError as error:
            raise PsrError(
                "a triplet without its parent",
                where=path,
                expected="its pair and completion beside it",
                got=f"no {error}",
                do="Run the stages `complete` and `select` again.",
            ) from error
        return Triplet(pair, answer, row["trait"], row["coherence"])

    return _records(path, "triplets", build, {"pair": by_pair} if others else None)


def write_dropped(path: Path | str, dropped: Iterable[Dropped]) -> Path:
    """One row per completion that was not kept."""
    return write_table(path, "dropped", dropped)


def read_dropped(path: Path | str) -> tuple[Dropped, ...]:
    """What was not kept, and why."""
    return _records(path, "dropped", lambda r: Dropped(**r))


def write_curves(path: Path | str, curves: Mapping[str, Iterable[CurvePoint]]) -> Path:
    """Training curves by module id."""
    names = ("epoch", "loss", "objective", "regulariser", "dead")
    rows = [{"module": module, **_fields(point, names)} for module, points in curves.items() for point in points]
    return write_table(path, "curves", rows)


def read_curves(path: Path | str) -> dict[str, tuple[CurvePoint, ...]]:
    """Training curves by module id."""
    curves: dict[str, list[CurvePoint]] = {}
    for row in read_table(path, "curves"):
        point = CurvePoint(**{name: value for name, value in row.items() if name != "module"})
        curves.setdefault(row["module"], []).append(point)
    return {module: tuple(points) for module, points in curves.items()}


def _records(
    path: Path | str, name: str, build: Callable[[Row], T], where: Mapping[str, Iterable[Any]] | None = None
) -> tuple[T, ...]:
    records = []
    for row in read_table(path, name, where):
        record = build(row)
        if "id" in row and record.id != row["id"]:  # type: ignore[attr-defined]
            raise PsrError(
                "a row does not belong to its id",
                where=path,
                expected=record.id,  # type: ignore[attr-defined]
                got=row["id"],
                do=REMEDY,
            )
        records.append(record)
    return tuple(records)


def _filters(where: Mapping[str, Iterable[Any]]) -> Any:
    """`where` as pyarrow takes it; None reads all rows."""
    tests = [pc.field(column).isin(pa.array(list(values), pa.string())) for column, values in where.items()]
    return reduce(and_, tests) if tests else None


def _as_row(record: Any, schema: pa.Schema, path: Path) -> dict[str, Any]:
    """`record` as a mapping; a parent held as a record becomes its id."""
    if not isinstance(record, Mapping):
        return {name: getattr(value, "id", value) for name, value in _fields(record, schema.names).items()}
    if set(record) != set(schema.names):
        raise PsrError(
            "a row has other columns than its table",
            where=path,
            expected=", ".join(schema.names),
            got=", ".join(map(str, record)),
        )
    return dict(record)


def _table(rows: list[dict[str, Any]], schema: pa.Schema, path: Path) -> pa.Table:
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise PsrError("a value does not fit its column", where=path, got=_first_line(error)) from error
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise PsrError(
                "a value is missing",
                where=f"{path}, column {field.name}",
                expected="no empty cell",
                got=f"{table[field.name].null_count} of {table.num_rows}",
            )
    return table


def _conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise PsrError(
            "a table lacks columns",
            where=path,
            expected=", ".join(schema.names),
            got=f"no {', '.join(missing)}",
            do=REMEDY,
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise PsrError("a table's columns have other types", where=path, got=_first_line(error), do=REMEDY) from error


def _fields(record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _without_id(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
