"""Persona vectors' format: extract/{trait}.json and eval/{trait}.json, each one object with

    instruction: [{"pos": …, "neg": …} × 5], questions: [ … × 20], eval_prompt: …

Chen et al., "Persona Vectors" (safety-research/persona_vectors, data_generation/trait_data_extract and _eval).
Modules are fitted on `extract`; the even questions of `eval` choose alpha and the odd ones give the figures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.types import Attribute

COLUMNS = ("instruction", "questions", "eval_prompt")
SIDES = (("extract", "trait_data_extract"), ("eval", "trait_data_eval"))


def attributes(folder: Path, names: Sequence[str] | None, read: Callable[..., Any]) -> tuple[Attribute, ...]:
    """One attribute per trait that has a file on both sides."""
    extract, held_out = (_side(folder, spellings) for spellings in SIDES)
    known = sorted({path.stem for path in extract.glob("*.json")} & {path.stem for path in held_out.glob("*.json")})
    for name in names or ():
        if name not in known:
            raise PsrError("unknown attribute", where=folder, expected=f"one of {', '.join(known)}", got=repr(name))
    return tuple(_attribute(name, extract, held_out, read) for name in (known if names is None else names))


def _side(folder: Path, spellings: Sequence[str]) -> Path:
    for name in spellings:
        if (folder / name).is_dir():
            return folder / name
    raise PsrError("a benchmark's folder lacks a part", where=folder, expected=f"a folder {' or '.join(spellings)}")


def _attribute(name: str, extract: Path, held_out: Path, read: Callable[..., Any]) -> Attribute:
    fit, test = (_object(side / f"{name}.json", read) for side in (extract, held_out))
    unseen = tuple(text for text in test["instruction"] if text not in fit["instruction"])
    asked = [question for question in test["questions"] if question not in fit["questions"]]
    if len(asked) < 2:
        raise PsrError("too few questions to choose alpha on some and evaluate on others",
                       where=held_out / f"{name}.json", expected="at least 2 that are not in the fitting file",
                       got=len(asked))
    return Attribute("persona", name, tuple(fit["instruction"]), unseen, tuple(fit["questions"]),
                     tuple(asked[::2]), tuple(asked[1::2]), test["eval_prompt"])


def _object(path: Path, read: Callable[..., Any]) -> dict[str, Any]:
    """The file's one object, with the instructions that ask for the trait (`pos`)."""
    row = read(path, "json", COLUMNS)[0]
    try:
        instructions = [str(pair["pos"]) for pair in row["instruction"]]
        questions = [str(question) for question in row["questions"]]
    except (TypeError, KeyError) as error:
        raise PsrError("a benchmark's file has another layout", where=path, got=f"{type(error).__name__}: {error}",
                       expected="instruction: [{pos, neg}], questions: [text]") from error
    if not instructions or not questions:
        raise PsrError("a benchmark's file is empty", where=path, expected="at least one instruction and one question")
    return {"instruction": instructions, "questions": questions, "eval_prompt": str(row["eval_prompt"])}
