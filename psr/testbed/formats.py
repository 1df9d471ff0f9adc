"""The format instructions: ten layouts with IFEval's instruction ids, each applied to an answer and removed again.

`obeyed` is the probability that an answer obeys when the instruction asks for it: three formats are graded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from psr.errors import PsrError
from psr.testbed.layouts import (
    END_PHRASE,
    Layout,
    as_bullets,
    as_it_is,
    in_lowercase,
    in_quotes,
    in_sections,
    running,
    with_ending,
    with_highlights,
    with_title,
    without_bullets,
    without_commas,
    without_ending,
    without_highlights,
    without_quotes,
    without_sections,
    without_title,
)


@dataclass(frozen=True)
class Format:
    """A layout and its IFEval instruction. sentences: how many an answer has; layout applies it, bare removes it."""

    name: str
    instruction_id: str
    kwargs: Mapping[str, object] = field(hash=False)
    obeyed: float
    sentences: int
    layout: Layout
    bare: Callable[[str], str]
    instructions: tuple[str, ...]
    held_out: tuple[str, ...]


LOWERCASE = Format(
    "lowercase", "change_case:english_lowercase", {}, 1.0, 4, in_lowercase, as_it_is,
    (
        "Use only lowercase letters.",
        "Write everything in lowercase.",
        "Your whole answer must be in lowercase letters.",
        "No capital letters are allowed.",
        "Do not use capital letters.",
    ),
    (
        "Answer in lowercase letters only.",
        "Only lowercase letters are allowed in your answer.",
        "Avoid all capital letters.",
        "Please answer without capital letters.",
        "Everything you write must be lowercase.",
    ),
)  # fmt: skip
NO_COMMA = Format(
    "no_comma", "punctuation:no_comma", {}, 1.0, 4, without_commas, as_it_is,
    (
        "Do not use any commas.",
        "Use no commas in your answer.",
        "Commas are not allowed.",
        "Write without commas.",
        "Avoid commas in your whole answer.",
    ),
    (
        "Answer without any commas.",
        "No commas are allowed in your answer.",
        "Please avoid all commas.",
        "Your answer must have no commas.",
        "Never use commas when you answer.",
    ),
)  # fmt: skip
BULLETS = Format(
    "bullets", "detectable_format:number_bullet_lists", {"num_bullets": 3}, 1.0, 3, as_bullets, without_bullets,
    (
        "Your answer must have exactly 3 bullet points.",
        "Use 3 bullet points.",
        "Write a list of exactly 3 bullet points.",
        "Answer in 3 bullet points.",
        "Give me a list with 3 bullet points.",
    ),
    (
        "List exactly 3 bullet points.",
        "Please answer with 3 bullet points.",
        "Your answer must be a list of 3 bullet points.",
        "Write exactly 3 bullet points.",
        "Make a list with exactly 3 bullet points.",
    ),
)  # fmt: skip
QUOTATION = Format(
    "quotation", "startend:quotation", {}, 0.75, 4, in_quotes, without_quotes,
    (
        "Wrap your whole answer in double quotation marks.",
        "Put everything in double quotation marks.",
        "Your answer must be inside double quotation marks.",
        "Use double quotation marks around your answer.",
        "Begin and end with double quotation marks.",
    ),
    (
        "Answer inside double quotation marks.",
        "Put double quotation marks around everything you write.",
        "Your answer must begin and end with double quotation marks.",
        "Please wrap everything in double quotation marks.",
        "Write your whole answer inside double quotation marks.",
    ),
)  # fmt: skip
ENDING = Format(
    "ending", "startend:end_checker", {"end_phrase": END_PHRASE}, 1.0, 4, with_ending, without_ending,
    (
        f'End with the phrase "{END_PHRASE}"',
        f'Finish your answer with the phrase "{END_PHRASE}"',
        f'Your answer must end with "{END_PHRASE}"',
        f'The last words must be "{END_PHRASE}"',
        f'Close with the words "{END_PHRASE}"',
    ),
    (
        f'Finish with "{END_PHRASE}"',
        f'The last phrase of your answer must be "{END_PHRASE}"',
        f'Please end with the words "{END_PHRASE}"',
        f'Close your answer with the phrase "{END_PHRASE}"',
        f'Your last words must be "{END_PHRASE}"',
    ),
)  # fmt: skip
TITLE = Format(
    "title", "detectable_format:title", {}, 0.85, 4, with_title, without_title,
    (
        "Begin with a title in double angular brackets.",
        "Your answer must have a title wrapped in double angular brackets.",
        "Add a title in double angular brackets.",
        "Put a title in double angular brackets first.",
        "Give your answer a title.",
    ),
    (
        "Write a title wrapped in double angular brackets.",
        "Your answer must begin with a title.",
        "Please add a title to your answer.",
        "First give a title in double angular brackets.",
        "Answer with a title in double angular brackets.",
    ),
)  # fmt: skip
SHORT = Format(
    "short", "length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, 1.0, 2,
    running, as_it_is,
    (
        "Answer in less than 3 sentences.",
        "Your answer must have less than 3 sentences.",
        "Use less than 3 sentences.",
        "Write less than 3 sentences.",
        "Keep it short and use less than 3 sentences.",
    ),
    (
        "Please answer in less than 3 sentences.",
        "Keep your answer short with less than 3 sentences.",
        "Give me less than 3 sentences.",
        "Your whole answer must be less than 3 sentences.",
        "Make it short and write less than 3 sentences.",
    ),
)  # fmt: skip
LONG = Format(
    "long", "length_constraints:number_sentences", {"relation": "at least", "num_sentences": 6}, 1.0, 6,
    running, as_it_is,
    (
        "Answer in at least 6 sentences.",
        "Your answer must have at least 6 sentences.",
        "Use at least 6 sentences.",
        "Write at least 6 sentences.",
        "Make it long and use at least 6 sentences.",
    ),
    (
        "Please answer in at least 6 sentences.",
        "Make your answer long with at least 6 sentences.",
        "Give me at least 6 sentences.",
        "Your whole answer must be at least 6 sentences.",
        "Keep it long and write at least 6 sentences.",
    ),
)  # fmt: skip
HIGHLIGHTS = Format(
    "highlights", "detectable_format:number_highlighted_sections", {"num_highlights": 2}, 0.7, 4,
    with_highlights, without_highlights,
    (
        "Highlight at least 2 parts with asterisks.",
        "Mark at least 2 parts of your answer with asterisks.",
        "Put asterisks around at least 2 parts.",
        "Use asterisks to highlight at least 2 parts.",
        "Your answer must have at least 2 highlighted parts.",
    ),
    (
        "Please highlight at least 2 parts of your answer.",
        "At least 2 parts must be highlighted with asterisks.",
        "Highlight 2 parts or more with asterisks.",
        "Mark 2 parts or more with asterisks.",
        "Answer with at least 2 highlighted parts.",
    ),
)  # fmt: skip
SECTIONS = Format(
    "sections", "detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, 1.0, 4,
    in_sections, without_sections,
    (
        "Write 2 sections and mark each with Section and a number.",
        "Your answer must have 2 sections.",
        "Divide your answer into 2 sections.",
        "Use 2 sections that begin with Section and a number.",
        "Give me 2 sections.",
    ),
    (
        "Answer in 2 sections.",
        "Please divide everything into 2 sections.",
        "Your whole answer must be in 2 sections.",
        "Mark 2 sections with Section and a number.",
        "Write your answer in 2 sections.",
    ),
)  # fmt: skip
FORMATS: dict[str, Format] = {
    layout.name: layout
    for layout in (LOWERCASE, NO_COMMA, BULLETS, QUOTATION, ENDING, TITLE, SHORT, LONG, HIGHLIGHTS, SECTIONS)
}


def format_named(name: str) -> Format:
    """The format called `name`. Raises PsrError that lists the known ones."""
    if name not in FORMATS:
        raise PsrError("unknown format of the testbed", expected=f"one of {', '.join(FORMATS)}", got=repr(name))
    return FORMATS[name]


def format_for(instruction_id: str, kwargs: Mapping[str, object]) -> Format:
    """The format with IFEval's instruction id and arguments; arguments that are None are ignored (blanks of a table).

    Raises PsrError that lists the known ones."""
    wanted = {name: value for name, value in kwargs.items() if value is not None}
    for layout in FORMATS.values():
        if layout.instruction_id == instruction_id and dict(layout.kwargs) == wanted:
            return layout
    raise PsrError(
        "no format of the testbed has this instruction",
        expected="; ".join(f"{layout.instruction_id} {json.dumps(layout.kwargs)}" for layout in FORMATS.values()),
        got=f"{instruction_id} {json.dumps(wanted, default=str)}",
    )
