"""Measures the testbed's language model: how coherent it is, and how well it obeys each instruction.

Temperature 1, held-out topics, half of the question forms and all of the judged paraphrases unused in fitting.
`python -m psr.testbed.measure FOLDER` writes FOLDER/figures.json and prints it as a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from psr.errors import PsrError
from psr.testbed.benchmarks import held_out_questions
from psr.testbed.concepts import CONCEPTS
from psr.testbed.formats import FORMATS
from psr.testbed.judges import TestbedJudge
from psr.testbed.neutral import NEUTRAL_HELD_OUT
from psr.testbed.traits import TRAITS
from psr.types import JudgeItem, PromptPair

FIGURES = "figures.json"
PLAIN = "none"  # the row without an instruction
MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Row:
    """One row of figures before it is measured: an attribute under one side's paraphrases, and its conversations."""

    benchmark: str
    attribute: str
    instructions: str
    obeyed: float
    pairs: tuple[PromptPair, ...]


def rows(questions: int = 96) -> Iterator[Row]:
    """The rows to measure: no instruction, neutral ones, every attribute; persona's under both sides' paraphrases."""
    yield _row("persona", "sycophantic", PLAIN, 0.0, ("",), questions)
    yield _row("persona", "sycophantic", "neutral", 0.0, NEUTRAL_HELD_OUT, questions)
    for trait in TRAITS.values():
        yield _row("persona", trait.name, "fitting", trait.obeyed, trait.instructions, questions)
        yield _row("persona", trait.name, "held out", trait.obeyed, trait.held_out, questions)
    for layout in FORMATS.values():
        yield _row("ifeval", layout.name, "held out", layout.obeyed, layout.held_out, questions)
    for concept in CONCEPTS:
        yield _row("axbench", concept.name, "held out", concept.obeyed, concept.held_out, questions)


def _row(benchmark: str, attribute: str, side: str, obeyed: float, instructions: Sequence[str], questions: int) -> Row:
    texts = held_out_questions(attribute)[:questions]
    paraphrases = islice(cycle(instructions), len(texts))
    pairs = (PromptPair(f"{benchmark}/{attribute}", q, i) for q, i in zip(texts, paraphrases, strict=True))
    return Row(benchmark, attribute, side, obeyed, tuple(pairs))


def figures_of(row: Row, texts: Sequence[str]) -> dict[str, Any]:
    """The row's means per dimension of its judge, rounded so that the file is stable."""
    judge = TestbedJudge(row.benchmark)
    items = [
        JudgeItem(pair.id, pair.attribute, pair.question, text) for pair, text in zip(row.pairs, texts, strict=True)
    ]
    judged = judge(items).judgements
    values = {
        name: [j.value for j in judged if j.dimension == name and j.value is not None] for name in judge.dimensions
    }
    means = {name: round(sum(scores) / len(scores), 2) for name, scores in values.items()}
    asked_for = {"attribute": f"{row.benchmark}/{row.attribute}", "instructions": row.instructions}
    return asked_for | {"obeyed_by_design": row.obeyed, "n": len(items)} | means


def measure(
    model: Path,
    *,
    questions: int = 96,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """The figures of the model in folder `model`, one row per attribute and side."""
    from psr.answers.generation import Request, Sampling, generate
    from psr.lm.chats import encode_chat
    from psr.lm.loading import load_model

    lm = load_model(model)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=1.0)
    figures = []
    for row in rows(questions):
        chats = [pair.instructed if pair.instruction else pair.plain for pair in row.pairs]
        prompts = [encode_chat(lm.tokenizer, chat) for chat in chats]
        requests = [Request(prompt, seed + i) for i, prompt in enumerate(prompts)]
        answers = generate(lm, requests, sampling, batch_size=batch_size)
        figures.append(figures_of(row, [answer.text for answer in answers]))
        if progress:
            progress(line(figures[-1]))
    return figures


def line(figures: dict[str, Any]) -> str:
    """One row of figures as a line of text."""
    labels = ("attribute", "instructions", "obeyed_by_design", "n")
    values = "  ".join(f"{name} {value:6.2f}" for name, value in figures.items() if name not in labels)
    return f"{figures['attribute']:<22} {figures['instructions']:<9} {values}"


def write_figures(folder: Path, figures: Sequence[dict[str, Any]]) -> None:
    """FOLDER/figures.json: one row a line."""
    rows_text = ",\n".join(" " + json.dumps(row) for row in figures)
    (folder / FIGURES).write_text(f"[\n{rows_text}\n]\n", encoding="utf-8")


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """The rows of FOLDER/figures.json. Raises PsrError for a file that is missing or damaged."""
    try:
        return list(json.loads((folder / FIGURES).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise PsrError(
            "a testbed's figures cannot be read",
            where=folder / FIGURES,
            got=str(error),
            do="Run python -m psr.testbed.measure FOLDER.",
        ) from error


def main(folder: Annotated[Path, typer.Argument(help="A testbed's folder, such as data/testbed.")]) -> None:
    """Measure FOLDER/model, write FOLDER/figures.json and print it."""
    try:
        write_figures(folder, measure(folder / "model", progress=typer.echo))
    except PsrError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
