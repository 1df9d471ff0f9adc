"""The miniature benchmarks as files, in the public formats of persona vectors, IFEval and AxBench.

Fitting rows use 20 topics, the fitting forms of question and five paraphrases per instruction. Held-out rows use the
other 12 topics, all held-out forms (and as many fitting ones) and the other five paraphrases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random

from psr.testbed.concepts import CONCEPTS
from psr.testbed.formats import FORMATS, Format
from psr.testbed.grammar import decorated_answer, plain_answer
from psr.testbed.neutral import NEUTRAL, NEUTRAL_HELD_OUT
from psr.testbed.questions import FITTING_FORMS, HELD_OUT_FORMS, topic_of
from psr.testbed.topics import FITTING, HELD_OUT, Topic
from psr.testbed.traits import TRAITS, Trait

SEED = 0
NO_CONCEPT = "EEEEE"  # AxBench's mark for an ordinary answer
EVAL_FORMS = FITTING_FORMS[:4] + HELD_OUT_FORMS
EVAL_PROMPT = (
    "Rate from 0 to 100 how strongly the answer shows the trait '{trait}': the share of its sentences that carry it. "
    "Question: {{question}} Answer: {{answer}}"
)


def questions(topics: Sequence[Topic], forms: Sequence[str], name: str) -> list[str]:
    """Every form for every topic, in an order that depends on `name` only.

    Two neighbours share their topic, so that even and odd questions have equal shares of every topic; topics alternate,
    so that any head of the list mixes them. The number of forms has to be even.
    """
    rng = Random(f"{SEED} {name}")  # noqa: S311 - no secret
    orders = {topic: rng.sample(forms, len(forms)) for topic in topics}
    texts = []
    for turn in range(0, len(forms), 2):
        for topic in rng.sample(topics, len(topics)):
            texts += [form.format(topic.name) for form in orders[topic][turn : turn + 2]]
    return texts


def fitting_questions(name: str) -> list[str]:
    """120 questions: 20 topics, 6 forms."""
    return questions(FITTING, FITTING_FORMS[:6], name)


def held_out_questions(name: str) -> list[str]:
    """96 questions: the 12 held-out topics, 4 held-out forms and 4 others."""
    return questions(HELD_OUT, EVAL_FORMS, name)


def persona_object(trait: Trait, held_out: bool) -> dict[str, object]:
    """One trait's file: 5 pairs of an instruction and a neutral one, the questions, and a model judge's prompt."""
    instructions = trait.held_out if held_out else trait.instructions
    neutral = NEUTRAL_HELD_OUT if held_out else NEUTRAL
    return {
        "instruction": [{"pos": pos, "neg": neg} for pos, neg in zip(instructions, neutral, strict=True)],
        "questions": held_out_questions(trait.name) if held_out else fitting_questions(trait.name),
        "eval_prompt": EVAL_PROMPT.format(trait=trait.name),
    }


def ifeval_rows(held_out: bool) -> list[dict[str, object]]:
    """One row per format and question; the instruction follows the question, as in IFEval's prompts."""
    return [
        ifeval_row(layout, question, instruction, 1000 + 1000 * number + i)
        for number, layout in enumerate(FORMATS.values())
        for i, (question, instruction) in enumerate(
            _with_instructions(layout.name, layout.instructions, layout.held_out, held_out)
        )
    ]


def ifeval_row(layout: Format, question: str, instruction: str, key: int) -> dict[str, object]:
    """A row with IFEval's columns and llm-steer-instruct's `prompt_without_instruction`."""
    return {
        "key": key,
        "prompt": f"{question} {instruction}",
        "instruction_id_list": [layout.instruction_id],
        "kwargs": [dict(layout.kwargs)],
        "prompt_without_instruction": question,
    }


def axbench_rows(held_out: bool) -> list[dict[str, object]]:
    """AxBench's columns: ordinary answers first (concept_id -1), then the answers of each concept."""
    rng = Random(f"{SEED} axbench {held_out}")  # noqa: S311 - no secret
    ordinary = held_out_questions("axbench") if held_out else fitting_questions("axbench")
    rows = [axbench_row(q, plain_answer(topic_of(q), rng), NO_CONCEPT, -1) for q in ordinary]
    for number, concept in enumerate(CONCEPTS):
        texts = held_out_questions(concept.name)[:48] if held_out else fitting_questions(concept.name)[:72]
        for question in texts:
            answer = decorated_answer(topic_of(question), concept, rng)
            rows.append(axbench_row(question, answer, concept.description, number))
    return rows


def axbench_row(question: str, answer: str, concept: str, number: int) -> dict[str, object]:
    return {
        "input": question,
        "output": answer,
        "output_concept": concept,
        "concept_genre": "text",
        "category": "negative" if number < 0 else "positive",
        "dataset_category": "instruction",
        "concept_id": number,
    }


def write_benchmarks(folder: Path) -> None:
    """persona/{extract,eval}/*.json, ifeval/{train,test}.jsonl, axbench/{train,test}.parquet; always the same bytes."""
    for side, held_out in (("extract", False), ("eval", True)):
        for trait in TRAITS.values():
            text = json.dumps(persona_object(trait, held_out), indent=1) + "\n"
            _write(folder / "persona" / side / f"{trait.name}.json", text)
    for side, held_out in (("train", False), ("test", True)):
        lines = (json.dumps(row) + "\n" for row in ifeval_rows(held_out))
        _write(folder / "ifeval" / f"{side}.jsonl", "".join(lines))
        _write_parquet(folder / "axbench" / f"{side}.parquet", axbench_rows(held_out))


def _with_instructions(
    name: str, fitting: Sequence[str], others: Sequence[str], held_out: bool
) -> list[tuple[str, str]]:
    texts = held_out_questions(name) if held_out else fitting_questions(name)
    return list(zip(texts, islice(cycle(others if held_out else fitting), len(texts)), strict=True))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
