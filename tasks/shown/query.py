"""Questions to results.duckdb, read-only by construction: no file, no network, no setting can be reached from SQL."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from psr.errors import PsrError

LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "lock_configuration": "true",
}


class Answer(NamedTuple):
    """Column names and rows, in the order that the query gives them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


Question = Callable[..., Answer]


def ask(database: Path | str, sql: str, parameters: Sequence[Any] = ()) -> Answer:
    """The answer to one SQL question. Raises PsrError: no index, or SQL that DuckDB refuses."""
    with asking(database) as question:
        return question(sql, parameters)


@contextmanager
def asking(database: Path | str) -> Iterator[Question]:
    """Yields `question(sql, parameters=())` for several questions to the same state of the index."""
    if not Path(database).is_file():
        raise PsrError(
            "there is no index of results",
            where=database,
            expected="results.duckdb",
            do="Run `python -m flows.reproduce` first.",
        )
    try:
        connection = duckdb.connect(str(database), read_only=True, config=LOCKED)
    except duckdb.Error as error:
        raise PsrError(
            "the index of results cannot be opened",
            where=database,
            got=_brief(error),
            do="Delete it and run `python -m flows.reproduce`, which builds it again.",
        ) from error

    with connection:
        yield partial(answer, connection)


def answer(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> Answer:
    """The answer of an open database. Raises PsrError for SQL that DuckDB refuses."""
    if not sql.strip():
        raise PsrError("there is no question", expected='SQL such as "select * from headline"')
    try:
        connection.execute(sql, list(parameters))
        columns = tuple(column[0] for column in connection.description or ())
        return Answer(columns, tuple(connection.fetchall()) if columns else ())
    except (duckdb.Error, UnicodeError) as error:
        raise PsrError(
            "the question was refused", got=_brief(error), do="`show tables` lists what there is."
        ) from error


def _brief(error: Exception) -> str:
    """DuckDB's message up to its drawing of the place."""
    return str(error).split("\n\nLINE")[0].replace("\n", " ")
