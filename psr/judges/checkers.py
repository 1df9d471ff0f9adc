"""IFEval's 25 checkers, as the package `if-verifiable` has them from Google's code: does an answer follow an instruction?

The package is imported when a checker is first asked for; its own loader of questions, which asks a hub, is never called.
What a checker would draw at random (an argument that is missing or out of range) is refused here, and langdetect, which
draws too, is seeded.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from psr.errors import PsrError
from psr.judges import punkt

PACKAGES = ("if-verifiable", "langdetect", "nltk")
SPLIT = ("length_constraints:number_sentences", "change_case:capital_word_frequency")  # kinds that need nltk's splitter
SEED = 0


def refusal(kwargs: Mapping[str, object]) -> str:
    """Why no checker can be made for an attribute's kwargs (`instruction_id` and its arguments); empty where one can."""
    try:
        _checker(kwargs).check_following("An ordinary answer, as any other.")
    except PsrError as error:
        return str(error)
    except Exception as error:  # whatever a checker raises for arguments that it was not written for
        return f"the checker fails with these arguments: {type(error).__name__}: {error}"
    return ""


def follows(kwargs: Mapping[str, object], text: str) -> tuple[bool, bool]:
    """(strict, loose): whether the checker passes on `text`, and on any of its eight variants. Blank text never passes.

    kwargs: `instruction_id` and the instruction's arguments, as IFEval's rows have them. A text whose language cannot be
    told (it has no letters) counts as of the right one: so do Google's figures. Raises PsrError where `refusal` has a reason, and
    for an answer on which the checker fails.

    Example:
        follows({"instruction_id": "punctuation:no_comma"}, "No comma here.")  # (True, True)
    """
    checker = _checker(kwargs)
    try:
        with _seeded():
            passed = [bool(variant.strip()) and bool(checker.check_following(variant)) for variant in variants(text)]
    except Exception as error:  # such as json's RecursionError for a thousand brackets
        raise PsrError("a checker failed on an answer", where=checker.id, got=type(error).__name__) from error
    return passed[0], any(passed)


def variants(text: str) -> list[str]:
    """The text, without its first line, without its last, without both; then each of these without asterisks."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return cut + [variant.replace("*", "") for variant in cut]


def versions() -> dict[str, str]:
    """The packages that decide what the checkers say. Raises PsrError where one is not installed."""
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise _not_installed() from error


@cache
def _classes() -> dict[str, Any]:
    """instruction id -> class of its checker."""
    try:
        from if_verifiable.ifeval import instructions
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise _not_installed() from error
    silent = logging.getLogger("psr.judges.checkers")
    silent.disabled = True
    instructions.logging = silent  # it logs each answer whose language it cannot tell, in full
    return dict(INSTRUCTION_DICT)


def _not_installed() -> PsrError:
    return PsrError(
        "IFEval's checkers are not installed",
        expected=", ".join(PACKAGES),
        do="pip install 'prompt-steering-replacement[rules]'",
    )


def _checker(kwargs: Mapping[str, object]) -> Any:
    """A checker with its arguments. Raises PsrError: unknown, arguments that are missing or do not fit, no splitter."""
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in kwargs.items()}
    instruction = str(arguments.pop("instruction_id", ""))
    classes = _classes()
    if instruction not in classes:
        raise PsrError(
            "no checker has this instruction_id", expected=f"one of {', '.join(classes)}", got=repr(instruction)
        )
    if instruction in SPLIT and (why := punkt.lacking()):
        raise PsrError(f"the checker {instruction} cannot be used: {why}")
    checker, state = classes[instruction](instruction), random.getstate()
    try:
        checker.build_description(**arguments)
        drawn = random.getstate() != state
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise PsrError(
            "the checker does not take these arguments", where=instruction, got=f"{type(error).__name__}: {error}"
        ) from error
    finally:
        random.setstate(state)
    if drawn:
        raise PsrError(
            "the checker would draw an argument at random",
            where=instruction,
            expected=", ".join(checker.get_instruction_args_keys()),
            got=repr(arguments),
        )
    return checker


@contextmanager
def _seeded() -> Iterator[None]:
    """langdetect draws from a seed while this lasts."""
    from langdetect import DetectorFactory

    before, DetectorFactory.seed = DetectorFactory.seed, SEED
    try:
        yield
    finally:
        DetectorFactory.seed = before
