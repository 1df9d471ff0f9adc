"""Persona vectors' format: extract/{trait}.json and eval/{trait}.json, each one object with

    instruction: [{"pos": …, "neg": …} × 5], questions: [ … × 20], eval_prompt: …

Chen et al., "Persona Vectors" (safety-research/persona_vectors, data_generation/trait_data_extract and _eval).
Modules are fitted on `extract`; the even questions of `eval` choose alpha and the odd ones give the figures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.types import Attribute
from tasks.benchmarks.contract import Benchmark, Published, Read
from tasks.benchmarks.questions import Loaded, distinct, divide
from tasks.figures.strengths import MATCHED, Measure

COLUMNS = {"instruction": [{"pos": str, "neg": (str, None)}], "questions": [str], "eval_prompt": str}
SIDES = (("extract", "trait_data_extract"), ("eval", "trait_data_eval"))


def attributes(folder: Path, names: Sequence[str] | None, read: Read) -> tuple[Loaded, ...]:
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


def _attribute(name: str, extract: Path, held_out: Path, read: Read) -> Loaded:
    fit, test = (_object(side / f"{name}.json", read) for side in (extract, held_out))
    instructions, unseen = distinct(_said(fit)), distinct(_said(test), known=_said(fit))
    sides = divide(fit["questions"], test["questions"])
    if not sides.evaluate:
        raise PsrError(
            "too few questions to choose alpha on some and evaluate on others",
            where=held_out / f"{name}.json",
            expected="at least 2 that are not in the fitting file",
            got=len(sides.search),
        )
    return Loaded(Attribute("persona", name, instructions, unseen, *sides[:3], test["eval_prompt"]), sides)


def _object(path: Path, read: Read) -> dict[str, Any]:
    """The file's one object."""
    rows = read(path, "json", COLUMNS)
    if len(rows) != 1:
        raise PsrError(
            "a benchmark's file has another layout", where=path, expected="one object", got=f"{len(rows)} of them"
        )
    if not rows[0]["instruction"] or not rows[0]["questions"]:
        raise PsrError("a benchmark's file is empty", where=path, expected="at least one instruction and one question")
    return rows[0]  # type: ignore[no-any-return]


def _said(row: dict[str, Any]) -> list[str]:
    """The instructions that ask for the trait."""
    return [pair["pos"] for pair in row["instruction"]]


PERSONA = Benchmark(
    "persona",
    attributes,
    asked="trait",
    sense="coherence",
    optional=("words",),
    strength=MATCHED,
    measures=(
        Measure("ta_cp", "trait alignment at the prompt's coherence", "mean", interval_digits=0),
        Measure(
            "ta_cp2", "trait alignment at most 2 points below the prompt's coherence", "mean at Cp−2", interval_digits=0
        ),
        Measure("ta_c80", "trait alignment at coherence 80", "mean at C80", interval_digits=0),
        Measure("words", "share of sentences that a word rule finds it in", "by words", interval_digits=0),
        Measure("words_c80", "the same at coherence 80", "by words at C80", interval_digits=0),
    ),
    title="Traits",
    about="Trait alignment (0–100) at the strength α whose coherence is as good as the prompt's (TA@Cp), with its 95 % interval. "
    "α is chosen on search questions; the figures are of other questions, and the intervals repeat the choice. “Not reached”: "
    "only α = 0 is as coherent, so the unsteered figure stands. Cp−2: at most 2 points less coherent than the prompt, where for Cp "
    "a standard error decides. C80: at coherence 80. By words, where a judge has a rule: "
    "the share of sentences that it finds the trait in, at the α of Cp and at that of C80.",
    package={"regulariser": 0.1, "normalise": True},  # as psr.fitting.presets has it
    published=Published(
        "Qwen2.5-7B, persona vectors, mean of 5 traits",
        ("TA@Cp", "TA@C80"),
        {
            "prompt": (71.6, None),
            "s-const-dim-r": (34.8, 74.8),
            "s-const-mse-qr": (48.8, 71.6),
            "s-psr-mse-qr": (60.9, 83.3),
            "a-const-mse-qr": (83.6, 96.1),
            "a-psr-mse-qr": (83.9, 96.8),
        },
    ),
)
