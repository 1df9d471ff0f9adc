"""Everyday questions of our own, for whoever distils an instruction and has no questions at hand.

    questions.txt     120 of them, one a line, neighbours on one subject

Every second line is for fitting; those between go to search and to evaluation in turn, so that each side meets each subject.
"""

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from psr.errors import PsrError

LEAST = 24  # questions that can be divided: twelve to fit on, six to search on, six for the figures


class Questions(NamedTuple):
    """Distinct questions by side: for fitting a module, for choosing α, for the figures."""

    fitting: tuple[str, ...]
    search: tuple[str, ...]
    evaluate: tuple[str, ...]


def everyday_questions() -> Questions:
    """60 questions for fitting, 30 for search and 30 for evaluation.

    Example:
        fitting, search, evaluate = everyday_questions()
    """
    lines = tuple(files("psr.answers").joinpath("questions.txt").read_text(encoding="utf-8").splitlines())
    return divided(lines)


def divided(questions: Sequence[str]) -> Questions:
    """Every second question for fitting, those between for search and for evaluation in turn.

    Raises PsrError for one that is empty or there twice, and for fewer than LEAST.
    """
    lines = tuple(question.strip() for question in questions)
    for n, line in enumerate(lines, start=1):
        if not line:
            raise PsrError("a question is empty", where=f"question {n}", do="Leave it out.")
    twice = [line for line, count in Counter(lines).items() if count > 1]
    if twice:
        raise PsrError(
            "a question is there twice", where=repr(twice[0]), got=f"{len(twice)} of that kind", do="Keep one of each."
        )
    if len(lines) < LEAST:
        raise PsrError("too few questions", expected=f"at least {LEAST}, which are divided", got=len(lines))
    return Questions(lines[0::2], lines[1::4], lines[3::4])
