"""The SQLite file in which the answers of judges are kept, for all profiles, and its rows; tasks/asking/kept.py writes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from tasks.tables.schemas import SCHEMAS

FILE = Path(".psr", "judge_answers.sqlite")


def judge_answers(root: Path | str) -> list[dict[str, Any]]:
    """All that is kept in the repository at `root`, by its keys' order. Raises PsrError for a file that is damaged."""
    path, names = Path(root) / FILE, SCHEMAS["judge_answers"].names
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(f"SELECT {', '.join(names)} FROM answers ORDER BY key").fetchall()  # noqa: S608
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    return [dict(zip(names, row, strict=True)) for row in rows]


def damaged(path: Path, error: Exception) -> PsrError:
    """What to say of a file that cannot be read or written."""
    return PsrError(
        "the answers of judges cannot be kept",
        where=path,
        got=str(error),
        do="Free the disk, or move the file away: what it holds is then asked again.",
    )
