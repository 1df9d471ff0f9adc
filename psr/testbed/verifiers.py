"""IFEval's exact verifiers, for the instruction ids that the testbed uses.

Source: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models", google-research/instruction_following_eval.
Two differences: sentences are split at their end marks, not by NLTK, and no language is detected for lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from psr.errors import PsrError
from psr.testbed.decorations import split_sentences

Kwargs = Mapping[str, object]


def lowercase(text: str, kwargs: Kwargs) -> bool:
    """change_case:english_lowercase: no capital letters."""
    return text.islower()


def no_comma(text: str, kwargs: Kwargs) -> bool:
    """punctuation:no_comma."""
    return "," not in text


def bullet_lists(text: str, kwargs: Kwargs) -> bool:
    """detectable_format:number_bullet_lists: exactly `num_bullets` lines that begin with * or -."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, flags=re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, flags=re.MULTILINE)
    return len(stars) + len(dashes) == _number(kwargs, "num_bullets")


def quotation(text: str, kwargs: Kwargs) -> bool:
    """startend:quotation: the answer is between double quotes."""
    text = text.strip()
    return len(text) > 1 and text[0] == '"' and text[-1] == '"'


def end_checker(text: str, kwargs: Kwargs) -> bool:
    """startend:end_checker: the last words are `end_phrase`, in any case."""
    phrase = str(kwargs["end_phrase"]).strip().lower()
    return text.strip().strip('"').lower().endswith(phrase)


def title(text: str, kwargs: Kwargs) -> bool:
    """detectable_format:title: a title between double angular brackets."""
    return any(match.lstrip("<").rstrip(">").strip() for match in re.findall(r"<<[^\n]+>>", text))


def number_sentences(text: str, kwargs: Kwargs) -> bool:
    """length_constraints:number_sentences: "less than" or "at least" `num_sentences`."""
    count, bound = len(split_sentences(text)), _number(kwargs, "num_sentences")
    return count < bound if kwargs["relation"] == "less than" else count >= bound


def highlighted_sections(text: str, kwargs: Kwargs) -> bool:
    """detectable_format:number_highlighted_sections: at least `num_highlights` parts between asterisks."""
    single = [part for part in re.findall(r"\*[^\n\*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", text) if part.strip("*").strip()]
    return len(single) + len(double) >= _number(kwargs, "num_highlights")


def multiple_sections(text: str, kwargs: Kwargs) -> bool:
    """detectable_format:multiple_sections: at least `num_sections` parts that begin with `section_spliter` and a number."""
    pattern = rf"\s?{re.escape(str(kwargs['section_spliter']))}\s?\d+\s?"
    return len(re.split(pattern, text)) - 1 >= _number(kwargs, "num_sections")


VERIFIERS: dict[str, Callable[[str, Kwargs], bool]] = {
    "change_case:english_lowercase": lowercase,
    "punctuation:no_comma": no_comma,
    "detectable_format:number_bullet_lists": bullet_lists,
    "startend:quotation": quotation,
    "startend:end_checker": end_checker,
    "detectable_format:title": title,
    "length_constraints:number_sentences": number_sentences,
    "detectable_format:number_highlighted_sections": highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
}


def _number(kwargs: Kwargs, name: str) -> int:
    return int(kwargs[name])  # type: ignore[call-overload]


def follows(text: str, instruction: str, kwargs: Kwargs) -> bool:
    """Whether `text` obeys one instruction (strict); an empty answer never does. PsrError for an unknown instruction id."""
    if instruction not in VERIFIERS:
        raise PsrError(
            "no verifier for this instruction", expected=f"one of {', '.join(VERIFIERS)}", got=repr(instruction)
        )
    return bool(text.strip()) and VERIFIERS[instruction](text, kwargs)


def variants(text: str) -> tuple[str, ...]:
    """The eight texts of IFEval's loose measure: without the first line, the last, both; each also without asterisks."""
    lines = text.split("\n")
    cut = (lines, lines[1:], lines[:-1], lines[1:-1])
    kept = ["\n".join(part).strip() for part in cut]
    return tuple(kept + [part.replace("*", "") for part in kept])


def follows_loosely(text: str, instruction: str, kwargs: Kwargs) -> bool:
    """Whether any of the eight variants of `text` obeys."""
    return any(follows(variant, instruction, kwargs) for variant in variants(text))


def follows_all(text: str, instructions: Sequence[str], kwargs: Sequence[Kwargs], *, loose: bool = False) -> bool:
    """Whether `text` obeys every instruction of a prompt (IFEval's prompt-level accuracy for one answer)."""
    check = follows_loosely if loose else follows
    return all(check(text, name, arguments) for name, arguments in zip(instructions, kwargs, strict=True))
