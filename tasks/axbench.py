"""AxBench's format: parquet with input, output, output_concept, concept_id and category; one attribute a concept.

Wu et al. 2025, arXiv:2501.17148 (stanfordnlp/axbench). The inputs of the training file are for fitting; of the other
file's inputs the even ones choose alpha and the odd ones give the figures. The public files hold no instruction that
asks for a concept: then the general ones of the testbed are used, which name the concept by its description.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.testbed.concepts import HELD_OUT_INSTRUCTIONS, INSTRUCTIONS
from psr.types import Attribute

COLUMNS = ("input", "output", "output_concept", "concept_id", "category")
SIDES = (("train.parquet", "*train_data.parquet"), ("test.parquet", "*eval_data.parquet"))
NOTHING = -1  # the concept_id of rows that belong to no concept

Rows = list[dict[str, Any]]


def attributes(folder: Path, names: Sequence[str] | None, read: Callable[..., Any]) -> tuple[Attribute, ...]:
    """One attribute per concept; a name is the description as a slug, the description itself, or the concept's number."""
    fit, test = (read(_file(folder, patterns), "parquet", COLUMNS) for patterns in SIDES)
    concepts = {row["concept_id"]: row["output_concept"] for row in fit if row["concept_id"] != NOTHING}
    slugs = _slugs(concepts)
    spellings = {spelling: number for number, text in concepts.items() for spelling in (str(number), text, slugs[number])}
    for name in names or ():
        if name not in spellings:
            raise PsrError("unknown attribute", where=folder, expected=f"one of {', '.join(slugs.values())}", got=repr(name))
    wanted = sorted(concepts) if names is None else [spellings[name] for name in names]
    return tuple(_attribute(number, slugs[number], concepts[number], fit, test, folder) for number in wanted)


def _file(folder: Path, patterns: Sequence[str]) -> Path:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise PsrError("a benchmark's file is missing", where=folder, expected=" or ".join(patterns))
    return found[0]


def _slugs(concepts: dict[int, str]) -> dict[int, str]:
    """Names that may stand in folders: words and dashes, with the number where two concepts would share one."""
    slugs = {number: "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:60].strip("-") for number, text in concepts.items()}
    seen = list(slugs.values())
    return {number: slug if slug and seen.count(slug) == 1 else f"{slug}-{number}" for number, slug in slugs.items()}


def _attribute(number: int, name: str, concept: str, fit: Rows, test: Rows, folder: Path) -> Attribute:
    asked, unseen = _inputs(fit, number), _inputs(test, number)
    unseen = [text for text in unseen if text not in asked]
    if len(unseen) < 2:
        raise PsrError("too few inputs to choose alpha on some and evaluate on others", where=f"{folder}, concept {number}",
                       expected="at least 2 that are not in the training file", got=len(unseen))
    told, held_out = _instructions(fit, number), _instructions(test, number)
    if not told:
        told, held_out = ([text.format(concept.rstrip(".")) for text in texts] for texts in (INSTRUCTIONS, HELD_OUT_INSTRUCTIONS))
    return Attribute("axbench", name, tuple(told), tuple(text for text in held_out if text not in told), tuple(asked),
                     tuple(unseen[::2]), tuple(unseen[1::2]), concept, (("concept", concept), ("concept_id", number)))


def _inputs(rows: Rows, number: int) -> list[str]:
    return list(dict.fromkeys(row["input"] for row in rows if row["concept_id"] == number))


def _instructions(rows: Rows, number: int) -> list[str]:
    return list(dict.fromkeys(row["instruction"] for row in rows if row["concept_id"] == number and row.get("instruction")))
