"""Everyday questions of our own, for whoever distils an instruction and has no questions at hand.

    questions.txt     120 of them, one a line, neighbours on one subject

Every second line is for fitting; those between go to search and to evaluation in turn, so that each side meets each subject.
"""

from importlib.resources import files
from typing import NamedTuple


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
    return Questions(lines[0::2], lines[1::4], lines[3::4])
