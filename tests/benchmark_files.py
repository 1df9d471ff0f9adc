"""Small files in the public formats of persona vectors, IFEval and AxBench."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def trait(questions: list[str], word: str = "loud") -> dict[str, Any]:
    pairs = [{"pos": f"Be {word}, way {i}.", "neg": f"Be quiet, way {i}."} for i in range(5)]
    return {"instruction": pairs, "questions": questions, "eval_prompt": "Rate {answer} to {question}."}


def write_persona(folder: Path, sides: tuple[str, str] = ("extract", "eval")) -> Path:
    for side, questions, word in zip(
        sides, (["f1", "f2", "f3"], ["e0", "e1", "e2", "e3", "e4"]), ("loud", "noisy"), strict=True
    ):
        (folder / side).mkdir(parents=True)
        for name in ("loud", "shy"):
            (folder / side / f"{name}.json").write_text(json.dumps(trait(questions, word), indent=4))
    return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def line(question: str, said: str, instruction: str = "punctuation:no_comma", **kwargs: object) -> dict[str, Any]:
    return {
        "key": 1,
        "prompt": f"{question} {said}",
        "instruction_id_list": [instruction],
        "kwargs": [kwargs],
        "prompt_without_instruction": question,
    }


def write_concepts(folder: Path, concepts: dict[int, str], **columns: str) -> Path:
    for side, count in (("train", 3), ("test", 4)):
        rows = [
            concept_row(f"{side} {i}", text, number, **columns)
            for number, text in concepts.items()
            for i in range(count)
        ]
        rows.append(concept_row("nothing", "EEEEE", -1, category="negative", **columns))
        write_rows(folder / f"{side}.parquet", rows)
    return folder


def concept_row(question: str, concept: str, number: int, **columns: object) -> dict[str, Any]:
    return {
        "input": question,
        "output": "o",
        "output_concept": concept,
        "concept_genre": "text",
        "concept_id": number,
        "category": "positive",
        **columns,
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_single_instructions(folder: Path) -> Path:
    """llm-steer-instruct's two files: rows of one instruction, among them languages of a row each, and IFEval's prompts
    without any instruction, of which the rows' own are some."""
    plain = [f"Tell me about subject {i}." for i in range(12)]
    rows = [
        line(plain[0], "Use only Hindi.", "language:response_language", language="hi"),
        line(plain[1], "Answer in Urdu.", "language:response_language", language="ur"),
        *(line(plain[i], "Do not use commas.") for i in (2, 3)),
        line("Write a riddle.", "", "punctuation:no_comma")
        | {"prompt": "Write a riddle, and do not use any commas in it."},
    ]
    keys = [1000, 1001, 1002, 1003, 1099]
    rows = [row | {"key": key, "instruction_id_list_for_eval": []} for row, key in zip(rows, keys, strict=True)]
    write_lines(folder / "ifeval_single_instr_format.jsonl", rows)
    base = [
        {"uid": i, "key": 1000 + i, "original_prompt": f"{text} In a way.", "model_output": text, "is_valid": True}
        for i, text in enumerate(plain)
    ]
    write_lines(folder / "ifeval_wo_instructions.jsonl", base)
    return folder / "ifeval_single_instr_format.jsonl"


def write_concept_set(folder: Path, concepts: dict[int, str], layout: tuple[str, str]) -> Path:
    """A set of concepts in one of the layouts that AxBench is published in. layout: the files of training and evaluation."""
    for place, count, kinds in zip(layout, (6, 4), (("positive",), ("positive", "negative")), strict=True):
        rows = [
            concept_row(f"{place} {number} {kind} {i}", text if kind == "positive" else "EEEEE", number, category=kind)
            | {"dataset_category": "instruction"}
            for number, text in concepts.items()
            for kind in kinds
            for i in range(count)
        ]
        write_rows(folder / place, rows)
    return folder
