"""IFEval's format: JSON lines with prompt, instruction_id_list, kwargs and, where a file has it, prompt_without_instruction.

Zhou et al. 2023 (google-research/instruction_following_eval); single-instruction rows with their plain prompt:
microsoft/llm-steer-instruct. An attribute is one instruction with one set of arguments, such as `no_comma`, or
`response_language` in Hindi; rows with several instructions are left out. Which questions it is fitted on:

    train.jsonl, test.jsonl            train is for fitting; the even rows of test choose alpha, the odd ones give the figures
    ifeval_wo_instructions.jsonl       beside a public file: IFEval's prompts without any instruction. Every second one is for
                                       fitting, those between for search, and all rows of the file give figures
    a public file alone                its questions go to the two sides in turn
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psr.errors import PsrError
from psr.types import Attribute
from tasks.benchmarks.contract import Benchmark, Published, Read
from tasks.benchmarks.questions import Loaded, Sides, distinct, divide
from tasks.figures.strengths import AT_ONE, Measure

ARGUMENT = (str, float, [(str, float)], None)
COLUMNS = {
    "prompt": str,
    "instruction_id_list": [str],
    "kwargs": [({str: ARGUMENT}, None)],
    "prompt_without_instruction": (str, None),
    "key": (int, str, None),
}
BASE = "ifeval_wo_instructions.jsonl"
BASE_COLUMNS = {"key": int, "model_output": str}
PUBLIC = ("ifeval_single_instr_format.jsonl", "input_data.jsonl")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
SPACES, SAYS = (
    r"\s*",
    r"[\s.,;?!]*(?:(?:and|but)\b\s*)?(?P<says>.*)",
)  # what may stand between two signs, and behind all
# How a sentence of a public prompt is known to state the instruction, where the file has no plain prompt beside it.
SAID = {
    "change_case:capital_word_frequency": r"capital|all caps",
    "change_case:english_capital": r"capital|upper\s?case",
    "change_case:english_lowercase": r"lower\s?case|capital",
    "combination:repeat_prompt": r"repeat",
    "combination:two_responses": r"two (different )?(responses|answers|versions)|asterisk|\*{6}",
    "detectable_content:number_placeholders": r"placeholder|square bracket",
    "detectable_content:postscript": r"P\.\s?(P\.)?\s?S|post\s?script",
    "detectable_format:constrained_response": r"my answer is|one of the following|choose from",
    "detectable_format:json_format": r"json",
    "detectable_format:multiple_sections": r"section|part|paragraph|day",
    "detectable_format:number_bullet_lists": r"bullet",
    "detectable_format:number_highlighted_sections": r"highlight|\*|italic|markdown",
    "detectable_format:title": r"title|angular bracket|<<",
    "keywords:existence": r"keyword|include|word",
    "keywords:forbidden_words": r"do not|don't|avoid|without|not (include|contain|use|say)|keyword",
    "keywords:frequency": r"times?\b|twice|once",
    "keywords:letter_frequency": r"letter",
    "language:response_language": r"language|in (english|\w+ only)",
    "length_constraints:nth_paragraph_first_word": r"paragraph",
    "length_constraints:number_paragraphs": r"paragraph|\*\*\*|divider",
    "length_constraints:number_sentences": r"sentence",
    "length_constraints:number_words": r"\bwords?\b",
    "punctuation:no_comma": r"comma",
    "startend:end_checker": r"\bend|finish|conclude|last (sentence|words?|phrase)|exact phrase",
    "startend:quotation": r"quotation|double quotes?|quotes",
}


class Row(NamedTuple):
    """One single-instruction row: the attribute's name, the plain question, the instruction's words ("" if not known).

    key: IFEval's number of the prompt that it was made of.
    """

    name: str
    prompt: str
    question: str
    instruction: str
    kwargs: tuple[tuple[str, object], ...]
    key: int | str | None


def attributes(folder: Path, names: Sequence[str] | None, read: Read) -> tuple[Loaded, ...]:
    """One attribute per instruction and arguments with enough rows on either side. folder: or a public file itself."""
    fit, test, base = _sides(folder, read)
    rows = [*fit, *test]
    found = {name: _attribute(name, fit, test, base) for name in dict.fromkeys(row.name for row in rows)}
    known = {name: attribute for name, attribute in found.items() if attribute is not None}
    _tell(folder, [name for name in found if name not in known], bool(known))
    for name in names or ():
        if name not in known:
            raise PsrError(
                "unknown attribute",
                where=folder,
                expected=f"one of {', '.join(sorted(known))}",
                got=repr(name),
                do=f"Rows with several instructions and, without {BASE}, instructions with fewer than 4 rows make none.",
            )
    return tuple(known[name] for name in (sorted(known) if names is None else names))


def _sides(folder: Path, read: Read) -> tuple[list[Row], list[Row], dict[int, str]]:
    """The rows for fitting and the others, and IFEval's prompts without an instruction where their file is there."""
    if (folder / "train.jsonl").is_file():
        fit, test = _rows([folder / f"{side}.jsonl" for side in ("train", "test")], read)
        return fit, test, {}
    public = [folder] if folder.is_file() else [folder / name for name in PUBLIC if (folder / name).is_file()]
    if not public:
        raise PsrError(
            "a benchmark's file is missing",
            where=folder,
            expected=f"train.jsonl and test.jsonl, or {' or '.join(PUBLIC)}",
        )
    rows = _rows(public[:1], read)[0]
    if (path := public[0].with_name(BASE)).is_file():
        return [], rows, {raw["key"]: raw["model_output"].strip() for raw in read(path, "json", BASE_COLUMNS)}
    by_question: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        by_question.setdefault(row.name, {}).setdefault(row.question, []).append(row)
    fit, test = (
        [row for asked in by_question.values() for rows in list(asked.values())[first::2] for row in rows]
        for first in (0, 1)
    )
    return fit, test, {}


def _rows(paths: Sequence[Path], read: Read) -> list[list[Row]]:
    """Each file's single-instruction rows that can be split. Arguments are told apart over all of the files."""
    files = [
        [raw for number, raw in enumerate(read(path, "json", COLUMNS), 1) if _single(raw, f"{path}, row {number}")]
        for path in paths
    ]
    variants: dict[str, set[str]] = {}
    for raw in (raw for rows in files for raw in rows):
        variants.setdefault(raw["instruction_id_list"][0], set()).add(json.dumps(_given(raw), sort_keys=True))
    return [
        [
            Row(
                _name(raw["instruction_id_list"][0], _given(raw), variants),
                raw["prompt"].strip(),
                *parts,
                _pairs(raw, _given(raw)),
                raw.get("key"),
            )
            for raw in rows
            if (parts := _split(raw)) is not None
        ]
        for rows in files
    ]


def _tell(folder: Path, left_out: Sequence[str], some: bool) -> None:
    """Say which instructions have too few rows on a side to make an attribute; refuse a file that makes none."""
    if not some:
        raise PsrError(
            "a benchmark's files hold no attribute",
            where=folder,
            got=f"{len(left_out)} with too few rows",
            expected="rows with one instruction, enough of each to fit, to search and to evaluate",
        )
    if left_out:
        logging.getLogger("psr").warning(
            "%s: %d instructions make no attribute, with too few rows on a side: %s",
            folder.name,
            len(left_out),
            ", ".join(left_out[:5]),
        )


def _single(raw: dict[str, Any], where: str) -> bool:
    names, kwargs = raw["instruction_id_list"], raw["kwargs"]
    if len(names) != len(kwargs):
        raise PsrError(
            "a benchmark's row has another layout",
            where=where,
            got=str(names)[:80],
            expected="instruction_id_list and kwargs as lists of one length",
        )
    return len(names) == 1


def _given(raw: dict[str, Any]) -> dict[str, Any]:
    """The instruction's arguments; a table's blanks are left out."""
    return {name: value for name, value in (raw["kwargs"][0] or {}).items() if value is not None}


def _name(instruction: str, kwargs: dict[str, Any], variants: dict[str, set[str]]) -> str:
    """The instruction's id, with its arguments where the file has it with several: length…:number_sentences:less-than-3."""
    if len(variants[instruction]) == 1:
        return instruction
    text = "-".join(json.dumps(kwargs[name]) for name in sorted(kwargs, reverse=True))
    return ":".join([instruction, "-".join(re.findall(r"[^\W_]+", text))])


def _pairs(raw: dict[str, Any], kwargs: dict[str, Any]) -> tuple[tuple[str, object], ...]:
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in sorted(kwargs.items())}
    return (("instruction_id", raw["instruction_id_list"][0]), *arguments.items())


def _split(raw: dict[str, Any]) -> tuple[str, str] | None:
    """(plain question, instruction) of a row, None where they cannot be told apart; the instruction may be ""."""
    prompt, plain = raw["prompt"].strip(), (raw.get("prompt_without_instruction") or "").strip()
    if plain:
        return plain, _rest(prompt, plain)
    pattern = SAID.get(raw["instruction_id_list"][0])
    starts = [0, *(match.end() for match in SENTENCE.finditer(prompt))]
    for start in starts:
        end = next((s for s in starts if s > start), len(prompt))
        if pattern and re.search(pattern, prompt[start:end], re.IGNORECASE):
            return (prompt[:start].strip(), prompt[start:].strip()) if start else None
    return None


def _rest(prompt: str, plain: str) -> str:
    """What `prompt` says after `plain`, whatever white space, capitals and last mark; "" where it does not begin so."""
    begins = SPACES.join(re.escape(sign) for sign in plain.rstrip(".?! ") if not sign.isspace())
    found = re.match(begins + SAYS, prompt, re.IGNORECASE | re.DOTALL)
    return found["says"] if begins and found else ""


def _attribute(name: str, fit: Sequence[Row], test: Sequence[Row], base: Mapping[int, str]) -> Loaded | None:
    fit, test = ([row for row in side if row.name == name] for side in (fit, test))
    said = [row.instruction for row in (test if base else fit) if row.instruction]
    instructions = distinct(said)
    unseen = distinct((row.instruction for row in test if row.instruction), known=instructions)
    sides = _held_out(test, base) if base else _divided(fit, test)
    if not instructions or not sides.fitting or not sides.evaluate:
        return None
    asked = test[0].kwargs
    return Loaded(Attribute("ifeval", name, instructions, unseen, *sides[:3], str(asked[0][1]), asked), sides)


def _held_out(rows: Sequence[Row], base: Mapping[int, str]) -> Sides:
    """The attribute's own rows for the figures; the other prompts for fitting and for search in turn."""
    evaluate = distinct(row.question for row in rows)
    own = {row.key for row in rows}
    others = distinct((text for key, text in base.items() if text and key not in own), known=evaluate)
    return Sides(others[::2], others[1::2], evaluate, len(rows) - len(evaluate), 0)


def _divided(fit: Sequence[Row], test: Sequence[Row]) -> Sides:
    """The rows' questions by side; a prompt that is there again is left out even where it is split in another place."""
    fitted = {row.prompt for row in fit}
    asked: dict[str, str] = {}
    for row in test:
        asked.setdefault(row.prompt, row.question)
    new = [question for prompt, question in asked.items() if prompt not in fitted]
    sides = divide((row.question for row in fit), new)
    return sides._replace(repeated=sides.repeated + len(test) - len(asked), fitted=sides.fitted + len(asked) - len(new))


IFEVAL = Benchmark(
    "ifeval",
    attributes,
    asked="accuracy",
    sense="coherence",
    more=("accuracy_loose",),
    optional=("effect",),
    strength=AT_ONE,
    measures=(
        Measure("strict", "format instructions: strict accuracy", of="accuracy"),
        Measure("loose", "loose accuracy", of="accuracy_loose"),
        Measure("coherence", "coherence"),
        Measure("effect", "effect of the instruction by the model's own likelihoods", "by likelihood"),
    ),
    title="Format instructions",
    about="Share of answers that obey (strict accuracy, 0–100) with its 95 % interval, at α = 1; nothing is chosen.",
    package={"regulariser": 0.0, "normalise": False},  # as psr.fitting.presets has it
    published=Published(
        "Gemma-2-9b-it, IFEval format and language",
        ("accuracy", "coherence"),
        {
            "plain": (11.4, 96.6),
            "prompt": (85.7, 94.8),
            "s-psr-ll-r": (66.1, 95.5),
            "s-psr-ll-r+prompt": (93.1, 94.6),
            "a-psr-ll-r": (71.9, 82.3),
            "Stolfo et al. 2025": (30.8, 96.1),
        },
    ),
)
