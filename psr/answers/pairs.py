"""Which pairs are asked: questions × instructions for fitting, one unseen paraphrase a question for evaluation.

And under which sampling seeds: every fit seed has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from psr.errors import PsrError
from psr.types import Attribute, PromptPair

_QuestionSet = Literal["search", "evaluate"]


def spread(items: Sequence[str], n: int | None, what: str) -> tuple[str, ...]:
    """`n` of the items, evenly spread, in their order (None: all). Raises PsrError when there are fewer."""
    n = len(items) if n is None else n
    if not 1 <= n <= len(items):
        raise PsrError(
            f"not as many {what} as asked for",
            expected=f"1 to {len(items)}",
            got=n,
            do="Lower the number in params.yaml.",
        )
    return tuple(items[i * len(items) // n] for i in range(n))


def fit_pairs(attribute: Attribute, questions: int | None, instructions: int) -> tuple[PromptPair, ...]:
    """Every chosen fitting question with every chosen instruction (paper: 20 questions × 5 instructions)."""
    some_questions = spread(attribute.questions, questions, f"fitting questions of {attribute.key}")
    some_instructions = spread(attribute.instructions, instructions, f"instructions of {attribute.key}")
    return tuple(PromptPair(attribute.key, one, other) for one in some_questions for other in some_instructions)


def held_out_pairs(attribute: Attribute, question_set: _QuestionSet, questions: int | None) -> tuple[PromptPair, ...]:
    """Questions that no module was fitted on, each with one of the held-out paraphrases in turn."""
    chosen = spread(getattr(attribute, question_set), questions, f"{question_set} questions of {attribute.key}")
    wordings = attribute.held_out or attribute.instructions
    return tuple(PromptPair(attribute.key, one, wordings[i % len(wordings)]) for i, one in enumerate(chosen))


def sampling_seeds(seeds: Sequence[int], first: int, samples: int) -> dict[int, tuple[int, ...]]:
    """fit seed -> its own `samples` sampling seeds, counted up from `first`: a repetition repeats fit and answers both."""
    return {seed: tuple(range(first + i * samples, first + (i + 1) * samples)) for i, seed in enumerate(seeds)}
