"""Questions to results.duckdb, read-only by construction: no file, no network, no setting can be reached from SQL.

One database or several (`asking_all`): each under a name of its own, and all of them together in the schema `everyone`. DuckDB
is locked down once they are attached, and statements other than questions are refused before they reach it: DuckDB itself
would let `COPY … TO` write an attached database's write-ahead log.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from psr.errors import PsrError

LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",
    "enable_external_access": "false",  # after it no other folder, no other file
    "lock_configuration": "true",
}
EVERYONE = "everyone"  # the schema over all attached databases
RESERVED = (EVERYONE, "main", "memory", "system", "temp")  # DuckDB's own names
RELATIONS = """SELECT view_name, database_name FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT table_name, database_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"""
QUESTIONS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


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
    _require(database)
    try:
        connection = duckdb.connect(str(database), read_only=True, config=LOCKED)
    except duckdb.Error as error:
        raise _unreadable(database, error) from error
    with connection:
        yield partial(answer, connection)


@contextmanager
def asking_all(databases: Mapping[str, Path]) -> Iterator[Question]:
    """Yields `question(sql, parameters=())` to several indexes: NAME.headline is one's own, everyone.headline the rows of all
    with a column `database`. Raises PsrError: no such file, one that cannot be opened, a view of one that cannot be read."""
    for path in databases.values():
        _require(path)
    with duckdb.connect(
        config={name: value for name, value in LOCKED.items() if name.startswith("auto")}
    ) as connection:
        for name, path in databases.items():
            try:
                connection.execute(f"ATTACH {_literal(path)} AS {_quoted(name)} (READ_ONLY, TYPE duckdb)")
            except duckdb.Error as error:
                raise _unreadable(path, error) from error
        for name, value in LOCKED.items():
            connection.execute(f"SET {name} = '{value}'")
        _unite(connection, tuple(databases))  # what a view reads is looked up here: locked down before it
        yield partial(answer, connection)


def _unite(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """A view over the databases `names` for each view and table that any of them has; a column that one lacks is empty."""
    owners: dict[str, list[str]] = {}
    for relation, owner in connection.execute(RELATIONS).fetchall():
        owners.setdefault(relation, []).append(owner)
    connection.execute(f"ATTACH ':memory:' AS {EVERYONE}")
    for relation, own in owners.items():
        rows = [
            f"SELECT {_literal(name)} AS database, * FROM {_quoted(name)}.{_quoted(relation)}"  # noqa: S608
            for name in names
            if name in own
        ]
        try:
            connection.execute(f"CREATE VIEW {EVERYONE}.{_quoted(relation)} AS {' UNION ALL BY NAME '.join(rows)}")
        except duckdb.Error as error:
            raise PsrError(
                "the databases cannot be asked together",
                where=f"{relation} of {', '.join(own)}",
                got=_brief(error),
                do="Build them again by the same code: `python -m flows.reproduce` in their repositories.",
            ) from error


def answer(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> Answer:
    """The answer of an open database. Raises PsrError for SQL that DuckDB refuses, or that does not only ask."""
    if not sql.strip():
        raise PsrError("there is no question", expected='SQL such as "select * from headline"')
    try:
        _refuse_orders(connection, sql)
        connection.execute(sql, list(parameters))
        columns = tuple(column[0] for column in connection.description or ())
        return Answer(columns, tuple(connection.fetchall()) if columns else ())
    except (duckdb.Error, UnicodeError) as error:
        raise PsrError(
            "the question was refused", got=_brief(error), do="`show tables` lists what there is."
        ) from error


def _refuse_orders(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise PsrError for statements that do more than ask. EXPLAIN ANALYZE does what it explains."""
    for statement in connection.extract_statements(sql):
        kind = statement.type
        if kind not in QUESTIONS or (kind == duckdb.StatementType.EXPLAIN and "analyze" in statement.query.lower()):
            raise PsrError(
                "the question was refused",
                expected="SELECT, FROM, SHOW, DESCRIBE, EXPLAIN, or PIVOT with IN",
                got=kind.name.replace("_", " "),
            )


def _require(database: Path | str) -> None:
    if not Path(database).is_file():
        raise PsrError(
            "there is no index of results",
            where=database,
            expected="results.duckdb",
            do="Run `python -m flows.reproduce` first.",
        )


def _unreadable(database: Path | str, error: Exception) -> PsrError:
    """The error of a file that DuckDB does not open, and the way out of each."""
    message = _brief(error)
    what, do = "cannot be opened", "Delete it and run `python -m flows.reproduce`, which builds it again."
    if "version number" in message:
        what, do = (
            "is of another version of DuckDB",
            f"Install the newer DuckDB (this is {duckdb.__version__}), or: {do}",
        )
    elif "lock on file" in message:
        what, do = "is in use", "End the program that has it open for writing."
    return PsrError(f"the index of results {what}", where=database, got=message, do=do)


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _brief(error: Exception) -> str:
    """DuckDB's message up to its drawing of the place."""
    return str(error).split("\n\nLINE")[0].replace("\n", " ")
