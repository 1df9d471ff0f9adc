"""AxBench's format: parquet with input, output, output_concept, concept_id and category; one attribute a concept.

Wu et al. 2025, arXiv:2501.17148. As it is published, a set of concepts is one of

    generate/train_data.parquet, inference/latent_eval_data.parquet     a set's folder in stanfordnlp/axbench
    train/data.parquet, test/data.parquet                               a set's folder in pyvene/axbench-concept500
    train.parquet, test.parquet, or any of these side by side

AxBench starts another file every 500 concepts: train_data.parquet, train_data_1.parquet, …; all of them are read. Where
metadata.jsonl is there, it has to call the concepts the same.

The inputs of the training files are for fitting. What is asked of a steered model is asked of all concepts alike:
alpaca_eval.json, where it lies in the folder, holds the instructions that AxBench draws from, 10 a concept; else the inputs of the
other files. The even ones choose alpha and the odd ones give the figures. The public files hold no instruction that asks for a
concept: then general ones are used, which name the concept by its description.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psr.errors import PsrError
from psr.types import Attribute
from tasks.benchmarks.contract import Benchmark, Published, Read
from tasks.benchmarks.questions import Loaded, distinct, divide
from tasks.figures.strengths import BEST_FACTOR, Measure

COLUMNS = {
    "input": str,
    "output": str,
    "output_concept": str,
    "concept_id": int,
    "category": str,
    "instruction": (str, None),
}
METADATA = {"concept_id": int, "concept": str}
QUESTIONS, ASKED = "alpaca_eval.json", 10  # the file of instructions, and how many of them a concept is asked
PARTS = ("", "generate", "inference", "train", "test")  # where a set's files may lie in its folder
SIDES = {  # how a side's files are called
    "train.parquet or *train_data.parquet": r"(?P<first>train|(?P<set>.*)train_data)(?:_(?P<number>\d+))?",
    "test.parquet or *eval_data.parquet": r"(?P<first>test|(?P<set>.*?)(?:latent_)?eval_data)(?:_(?P<number>\d+))?",
}
NOTHING = -1  # the concept_id of rows that belong to no concept
POSITIVE = "positive"  # the category of rows whose output_concept is what their concept_id means
# Data files hold what is made of these words, and the testbed's model has learned no others.
INSTRUCTIONS = (
    "Bring {} into your answer.",
    "Your answer must include {}.",
    "Work {} into every sentence.",
    "Incorporate {} when you answer.",
    "Please add {} to what you say.",
)
HELD_OUT_INSTRUCTIONS = (
    "Include {} in your answer.",
    "Answer with {} in every sentence.",
    "Make sure that you add {}.",
    "What you say must bring in {}.",
    "Please incorporate {} into your answer.",
)

Rows = list[dict[str, Any]]
Table = dict[Path, Rows]  # the rows of each of a side's files


class File(NamedTuple):
    """A data file: the name of the first of its kind, the set it belongs to, its number (0: the first)."""

    first: str
    set: str
    number: int
    path: Path


def attributes(folder: Path, names: Sequence[str] | None, read: Read) -> tuple[Loaded, ...]:
    """One attribute per concept; a name is the description as a slug, the description itself, or the concept's number."""
    fit, test = ({path: read(path, "parquet", COLUMNS) for path in paths} for paths in _files(folder))
    concepts = _concepts(fit, test)
    _check_metadata(folder, concepts, read)
    slugs = _slugs(concepts)
    spellings = {
        spelling: number for number, text in concepts.items() for spelling in (str(number), text, slugs[number])
    }
    for name in names or ():
        if name not in spellings:
            raise PsrError(
                "unknown attribute", where=folder, expected=f"one of {', '.join(slugs.values())}", got=repr(name)
            )
    wanted = sorted(concepts) if names is None else [spellings[name] for name in names]
    asked, unseen, drawn = _by_concept(fit), _by_concept(test), _drawn(folder, wanted, read)
    return tuple(
        _attribute(n, slugs[n], concepts[n], asked[n], unseen.get(n, []), drawn.get(n), folder) for n in wanted
    )


def _files(folder: Path) -> list[list[Path]]:
    """The training files and the others, each in the order of their numbers. Raises PsrError unless they are one set."""
    sides = [_side(folder, names, pattern) for names, pattern in SIDES.items()]
    firsts = list(dict.fromkeys(file.first for side in sides for file in side))
    if len(firsts) > len(sides) or len({file.set for side in sides for file in side}) > 1:
        raise PsrError(
            "several sets of files in one folder",
            where=folder,
            expected="training and evaluation files of one set",
            got=", ".join(f"{first}.parquet" for first in firsts),
            do="Give each set a folder of its own.",
        )
    for first, side in zip(firsts, sides, strict=True):
        if [file.number for file in side] != list(range(len(side))):
            raise PsrError(
                "a benchmark's files are not numbered in turn",
                where=folder,
                expected=f"{first}.parquet, {first}_1.parquet, {first}_2.parquet, …",
                got=", ".join(file.path.name for file in side),
                do="A file is missing, or is there twice.",
            )
    return [[file.path for file in side] for side in sides]


def _side(folder: Path, names: str, pattern: str) -> list[File]:
    paths = [path for part in PARTS for path in (folder / part).glob("*.parquet")]
    names_of = {path: path.parent.name if path.stem == "data" else path.stem for path in paths}  # train/data.parquet
    matches = [(path, re.fullmatch(pattern, name)) for path, name in names_of.items()]
    files = [
        File(match["first"], match["set"] or "", int(match["number"] or 0), path) for path, match in matches if match
    ]
    if not files:
        raise PsrError("a benchmark's file is missing", where=folder, expected=names)
    return sorted(files, key=lambda file: (file.first, file.number, file.path.name))


def _concepts(fit: Table, test: Table) -> dict[int, str]:
    """number -> description of the concepts that can be fitted. Raises PsrError where a number has two descriptions."""
    found: dict[int, tuple[str, Path]] = {}
    for path, rows in (*fit.items(), *test.items()):
        for row in rows:
            number, text = row["concept_id"], row["output_concept"]
            if number == NOTHING or row["category"] != POSITIVE:
                continue
            known, home = found.setdefault(number, (text, path))
            if known.strip() != text.strip():
                raise PsrError(
                    "a concept's number means two concepts",
                    where=f"{path}, concept_id {number}",
                    expected=f"{known!r} as in {home.name}",
                    got=repr(text),
                    do="Give each set a folder of its own.",
                )
    concepts = {number: text for number, (text, home) in found.items() if home in fit}
    if not concepts:
        raise PsrError(
            "a benchmark's file holds no concept",
            where=", ".join(map(str, fit)),
            expected=f"rows of category {POSITIVE} with a concept_id other than {NOTHING}",
        )
    return concepts


def _check_metadata(folder: Path, concepts: dict[int, str], read: Read) -> None:
    """Raise PsrError where metadata.jsonl calls a concept otherwise than the data does."""
    for path in (path for part in PARTS for path in sorted((folder / part).glob("*metadata.jsonl"))):
        for row in read(path, "json", METADATA):
            number, text = row["concept_id"], row["concept"]
            known = concepts.get(number)
            if known is not None and known.strip() != text.strip():
                raise PsrError(
                    "a set's metadata is of other concepts than its data",
                    where=f"{path}, concept_id {number}",
                    expected=repr(known),
                    got=repr(text),
                    do="Give each set a folder of its own.",
                )


def _drawn(folder: Path, numbers: Sequence[int], read: Read) -> dict[int, list[str]]:
    """concept -> ASKED instructions out of the file of questions, drawn by its number; empty without the file."""
    if not (folder / QUESTIONS).is_file():
        return {}
    texts = distinct(row["instruction"] for row in read(folder / QUESTIONS, "json", {"instruction": str}))
    if len(texts) < ASKED:
        raise PsrError(
            "too few instructions to draw from",
            where=folder / QUESTIONS,
            expected=f"at least {ASKED} that differ",
            got=len(texts),
        )
    return {number: random.Random(number).sample(texts, ASKED) for number in numbers}  # noqa: S311 - no secret


def _slugs(concepts: dict[int, str]) -> dict[int, str]:
    """Names that may stand in folders: words and dashes, with the number where two concepts would share one."""
    slugs = {
        number: "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:60].strip("-") for number, text in concepts.items()
    }
    seen = Counter(slugs.values())
    return {number: slug if slug and seen[slug] == 1 else f"{slug}-{number}" for number, slug in slugs.items()}


def _by_concept(table: Table) -> dict[int, Rows]:
    found: dict[int, Rows] = {}
    for rows in table.values():
        for row in rows:
            found.setdefault(row["concept_id"], []).append(row)
    return found


def _attribute(
    number: int, name: str, concept: str, fit: Rows, test: Rows, drawn: Sequence[str] | None, folder: Path
) -> Loaded:
    sides = divide((row["input"] for row in fit), drawn or (row["input"] for row in test))
    if not sides.evaluate:
        raise PsrError(
            "too few inputs to choose alpha on some and evaluate on others",
            where=f"{folder}, concept {number}",
            expected="at least 2 that are not in the training file",
            got=len(sides.search),
        )
    instructions = distinct(row["instruction"] for row in fit if row.get("instruction"))
    held_out = distinct((row["instruction"] for row in test if row.get("instruction")), known=instructions)
    if not instructions:
        instructions, held_out = (
            tuple(text.format(concept.rstrip(".")) for text in texts) for texts in (INSTRUCTIONS, HELD_OUT_INSTRUCTIONS)
        )
    kwargs = (("concept", concept), ("concept_id", number))
    return Loaded(Attribute("axbench", name, instructions, held_out, *sides[:3], concept, kwargs), sides)


AXBENCH = Benchmark(
    "axbench",
    attributes,
    asked="concept",
    sense="fluency",
    more=("instruction",),
    strength=BEST_FACTOR,
    measures=(
        Measure("overall", "concepts: harmonic mean", "mean harmonic mean", digits=2, interval_digits=2, mean_digits=3),
        *(
            Measure(name, name, digits=2, interval_digits=2, mean_digits=2)
            for name in ("concept", "instruction", "fluency")
        ),
    ),
    title="Concepts",
    about="Harmonic mean of the ratings for concept, instruction and fluency (0–2; 0 if any is 0) with its 95 % interval. "
    "Each module steers by the factor that is best on the search questions; the figures are of other questions.",
    package={"regulariser": 0.0, "normalise": True},  # as psr.fitting.presets has it
    published=Published(
        "AxBench Concept500, layer 20: harmonic mean of three ratings (Heyman & Vandeputte), and its gain over the plain model "
        "with one factor a method (SteerScope)",
        ("Gemma-2-2B", "Gemma-2-9B", "gain, 2B", "gain, 9B"),
        {
            "prompt": (0.731, 1.075, 0.844, 1.028),
            "s-psr-ll-r": (0.618, 0.667, None, None),
            "s-psr-mse-r": (None, None, 0.321, 0.935),
            "a-psr-mse-r": (0.871, 1.120, 0.947, 1.180),
            "ReFT-r1": (0.509, 0.630, 0.449, 0.576),
            "SV (RePS)": (0.606, 0.892, 0.633, 0.879),
            "LoReFT (RePS)": (0.805, 0.757, 0.877, 0.917),
            "HyperSteer": (0.742, 1.091, None, None),
        },
        digits=3,
    ),
)
