"""What judges that are asked have answered, kept for all runs and profiles: a small SQLite file below .psr.

    .psr/judge_answers.sqlite      a row for each question that was ever answered (psr.judges.llm.Answer)

A row is written as soon as its answer is there, so a killed run loses at most what is on its way. Several processes may write.
The key of an endpoint comes from the environment here, is handed over when it is needed, and is stored nowhere.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from psr.judges.judging import Judge
from psr.judges.llm import Answer
from psr.types import Usage
from tasks.tables.judge_answers import FILE, damaged

COLUMNS = tuple(column.name for column in fields(Answer))
TYPES = {"value": "REAL", "tokens_in": "INTEGER", "tokens_out": "INTEGER"}
TABLE = f"""CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY,
    {", ".join(f"{name} {TYPES.get(name, 'TEXT')}" for name in COLUMNS if name != "key")}) WITHOUT ROWID"""
WAIT = 60.0  # seconds for another process that writes


@dataclass(frozen=True)
class KeptAnswers:
    """The answers in the file at `path`. Small and picklable. Raises PsrError for a file that is damaged."""

    path: Path

    def get(self, key: str) -> Answer | None:
        """The answer under `key`."""
        if not self.path.exists():
            return None
        with self._open() as connection:
            row = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM answers WHERE key = ?", [key]).fetchone()  # noqa: S608
        return None if row is None else Answer(*row)

    def __setitem__(self, key: str, answer: Answer) -> None:
        """Keep an answer. One that another process has kept meanwhile stays."""
        marks = ", ".join("?" * len(COLUMNS))
        with self._open() as connection:
            connection.execute(f"INSERT OR IGNORE INTO answers VALUES ({marks})", [key, *astuple(answer)[1:]])  # noqa: S608

    def spent(self, judge: str) -> Usage:
        """What all answers of a judge cost."""
        asked = (
            "SELECT count(*), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0) FROM answers WHERE judge = ?"
        )
        with self._open() as connection:
            return Usage(*connection.execute(asked, [judge]).fetchone())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as connection:
                if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    with suppress(sqlite3.OperationalError):  # another process is about to
                        connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(TABLE)
                yield connection
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, error) from error


def keeping(judges: Mapping[str, Judge], root: Path) -> dict[str, Judge]:
    """The judges, those that are asked with the kept answers of the repository at `root` and the key of their endpoint."""
    given = {"answers": KeptAnswers(root / FILE), "key_of": from_environment}
    return {name: replace(judge, **_fields(judge, given)) for name, judge in judges.items()}  # type: ignore[type-var]


def from_environment(name: str) -> str | None:
    """The value of an environment variable."""
    return os.environ.get(name)


def check_keys(judges: Mapping[str, Judge]) -> None:
    """Raise PsrError where the key of a judge's endpoint is not in the environment."""
    for judge in keeping(judges, Path()).values():
        if hasattr(judge, "key"):
            judge.key()


def _fields(judge: Judge, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is given, the fields that the judge has and that parameters do not set."""
    own = {one.name for one in fields(judge) if not one.metadata.get("setting", True)}  # type: ignore[arg-type]
    return {name: value for name, value in given.items() if name in own}
