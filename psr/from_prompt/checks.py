"""What must hold before a question is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from psr.answers.questions import Questions, divided, everyday_questions
from psr.errors import PsrError
from psr.fitting.methods import MethodPlug
from psr.fitting.methods.named import method_named
from psr.from_prompt.asked import COHERENCE
from psr.judges.judging import Judge
from psr.lm.chats import encode_chat
from psr.types import PromptPair

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

NAME = 48  # characters of a module's name that come from the instruction


def checked_method(method: str | MethodPlug, layers: Sequence[int] | None) -> MethodPlug:
    """The method's plug. Raises PsrError for one without a module, and for a single-layer one without its layer."""
    plug = method_named(method) if isinstance(method, str) else method
    if plug.method.adapts:
        raise PsrError(
            "this method makes no module", where=plug.method.name, expected="a method that steers, such as a-psr-mse-qr"
        )
    if plug.method.scope == "S" and layers is None:
        raise PsrError(
            "a single-layer method steers one layer", where=plug.method.name, expected="layers=(…,)", got="none"
        )
    return plug


def checked_questions(questions: Questions | Sequence[str] | None) -> Questions:
    """The questions by side. Raises PsrError as `divided`, and for a side that is empty or shares one with another."""
    if questions is None:
        return everyday_questions()
    if not isinstance(questions, Questions):
        return divided(questions)
    divided([question for side in questions for question in side])  # none empty, none twice, not too few
    for name, side in questions._asdict().items():
        if not side:
            raise PsrError(
                "a side has no questions", where=name, expected="questions to fit, to search and to evaluate on"
            )
    return questions


def check_judge(judge: Judge | None) -> None:
    """Raise PsrError unless the judge rates something, and coherence beside it."""
    if judge is not None and (COHERENCE not in judge.dimensions[1:]):
        raise PsrError(
            "this judge does not rate what is searched for",
            where=f"judge {judge.id}",
            expected=f"what is wanted as the first dimension, and {COHERENCE} behind it",
            got=", ".join(judge.dimensions) or "none",
        )


def check_lengths(lm: LanguageModel, questions: Questions, wordings: Sequence[str], room: int) -> None:
    """Raise PsrError for a question that leaves no room for an answer of `room` tokens behind the longest wording."""
    longest = max(wordings, key=len)
    for question in chain.from_iterable(questions):
        length = len(encode_chat(lm.tokenizer, PromptPair("", question, longest).instructed).ids)
        if length + room > lm.context:
            raise PsrError(
                "a question does not fit the model's context",
                where=repr(question if len(question) <= 60 else f"{question[:57]}..."),
                expected=f"at most {lm.context} tokens",
                got=f"{length} of question and instruction + {room} of the answer",
                do="Leave it out, or ask for shorter answers.",
            )


def slug(instruction: str) -> str:
    """A name for files and tables, made of the instruction's letters and digits."""
    return re.sub(r"[\W_]+", "-", instruction.lower()).strip("-")[:NAME].rstrip("-") or "instruction"
