"""Answers as a sheet for people to rate without knowing who gave them, and a filled sheet read back as judgements.

    id              tells nothing of the answer; rows stand in an order drawn from it
    asked for       an instruction of the attribute, the same for all its rows
    question, answer
    shows …, makes sense …      to be filled with 0 to 100; empty where a person cannot say

No method, strength or verdict is in it. A cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from psr.errors import PsrError
from psr.types import Completion, Judgement, short_hash
from tasks.benchmarks.contract import Benchmark
from tasks.engine.progress import clean
from tasks.studies.agreement.answers import Answers
from tasks.studies.agreement.table import PEOPLE

SHOWN = ("id", "asked for", "question", "answer")
RATED = ("shows what was asked for (0-100)", "makes sense (0-100)")
HEAD = [*SHOWN, *RATED]
RUBRIC = "sheet 1"  # of what people are asked; another wording is another rubric
SCALE = 100.0
NUMBER = re.compile(r"\d{1,3}(\.\d+)?", re.ASCII)
FORMULA = "=+-@＝＋－＠"  # how cells begin that a spreadsheet would compute
DELIMITERS = ",;\t"  # spreadsheets write the one that their language has
LONGEST = 10_000_000  # characters of a cell


def write_sheet(path: Path, completions: Sequence[Completion], answers: Answers, seed: int) -> None:
    """Write the sheet of the completions. Raises PsrError for a file that exists, since it may hold somebody's ratings."""
    rows = sorted((_shown(one, answers) for one in completions), key=lambda row: short_hash("sheet", seed, row[0]))
    try:
        # with its mark at the beginning, by which spreadsheets know UTF-8
        with open(path, "x", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([HEAD, *([*row, *("" for _ in RATED)] for row in rows)])
    except FileExistsError:
        raise PsrError("a file of that name exists", where=path, do="Choose another name for the sheet.") from None
    except OSError as error:
        raise PsrError("the sheet cannot be written", where=path, got=error.strerror or str(error)) from None


def read_sheet(path: Path, answers: Answers, benchmarks: Mapping[str, Benchmark], name: str) -> list[Judgement]:
    """The judgements of the person called `name`: two a row, in the file's order, one without a value where a cell is empty.

    benchmarks: by their own name; they say which dimensions the two ratings are. Rows may be missing, and in any order.
    Raises PsrError with row (the head is row 1) and column: another head, an id that is unknown or there twice, a text that is
    not the answer's, a rating that is no number from 0 to 100; for a sheet without a rating.
    """
    ids = {row_id(one): one for one in answers.completions}
    rows: dict[str, int] = {}
    judgements: list[Judgement] = []
    for number, row in _rows(path):
        key = row[0].strip()
        if key not in ids or key in rows:
            raise PsrError(
                "a row of the sheet is there twice"
                if key in rows
                else "a row of the sheet is not one of this profile's",
                where=f"{path.name}, row {number}, column id",
                expected="each row once" if key in rows else "an id as it was exported",
                got=f"{key}, which is in row {rows[key]}" if key in rows else repr(key),
                do="Correct the sheet.",
            )
        rows[key] = number
        completion = ids[key]
        for column, cell, text in zip(SHOWN, row, _shown(completion, answers), strict=False):
            if _words(cell) != _words(text):
                raise PsrError(
                    "a text of the sheet is not the one that was exported",
                    where=f"{path.name}, row {number}, column {column}",
                    expected=repr(_short(text)),
                    got=repr(_short(cell)),
                    do="Put the text back, so that the rating is known to be of this answer.",
                )
        benchmark = benchmarks[answers.attributes[answers.items[completion.id].attribute].benchmark]
        for dimension, column, cell in zip((benchmark.asked, benchmark.sense), RATED, row[len(SHOWN) :], strict=True):
            value = _rating(cell.strip(), f"{path.name}, row {number}, column {column}")
            error = "" if value is not None else "not rated"
            judgements.append(
                Judgement(completion.id, PEOPLE + name, RUBRIC, dimension, value, SCALE, cell.strip(), error)
            )
    if all(one.value is None for one in judgements):
        raise PsrError(
            "nothing is rated in the sheet",
            where=path.name,
            expected=f"numbers from 0 to 100 below {' or '.join(RATED)}",
        )
    return judgements


def row_id(completion: Completion) -> str:
    """The id of the completion's row. It begins with letters, or a spreadsheet would take some for numbers."""
    return f"row-{short_hash('sheet', completion.id)}"


def _shown(completion: Completion, answers: Answers) -> list[str]:
    """The cells below SHOWN."""
    item = answers.items[completion.id]
    attribute = answers.attributes[item.attribute]
    asked = next(iter((*attribute.instructions, *attribute.held_out)), attribute.name)
    return [row_id(completion), *map(_cell, (asked, item.question, item.text))]


def _cell(text: str) -> str:
    """The text without control characters, and as none that a spreadsheet computes."""
    shown = clean(text)
    return f"'{shown}" if shown.lstrip()[:1] in tuple(FORMULA) else shown


def _words(cell: str) -> list[str]:
    """What has to be the same: spreadsheets change line ends, and some take the apostrophe away."""
    return cell.removeprefix("'").split()


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) below the head, empty rows left out."""
    csv.field_size_limit(LONGEST)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = next((d for d in DELIMITERS if [*csv.reader([head], delimiter=d)] == [HEAD]), None)
            if delimiter is None:
                raise PsrError(
                    "this is no sheet of answers",
                    where=path.name,
                    expected=f"the columns {', '.join(HEAD)}",
                    got=repr(_short(head)),
                    do="Export one with --export, and keep its columns as they are.",
                )
            for number, row in enumerate(csv.reader(file, delimiter=delimiter, strict=True), start=2):
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(HEAD):
                    raise PsrError(
                        "a row of the sheet has another number of cells",
                        where=f"{path.name}, row {number}",
                        expected=len(HEAD),
                        got=len(row),
                        do="Correct the sheet.",
                    )
                yield number, row
    except UnicodeDecodeError:
        raise PsrError(
            "the sheet is no text in UTF-8", where=path.name, do="Save it as CSV in UTF-8, not as a workbook."
        ) from None
    except csv.Error as error:
        raise PsrError("the sheet is no CSV file", where=path.name, got=str(error), do="Save it as CSV.") from None
    except OSError as error:
        raise PsrError("the sheet cannot be read", where=path, got=error.strerror or str(error)) from None


def _rating(cell: str, where: str) -> float | None:
    if not cell:
        return None
    if not NUMBER.fullmatch(cell) or float(cell) > SCALE:
        raise PsrError(
            "a rating is no number from 0 to 100",
            where=where,
            expected="a number such as 75, or nothing",
            got=repr(cell),
        )
    return float(cell)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else f"{flat[:57]}..."
