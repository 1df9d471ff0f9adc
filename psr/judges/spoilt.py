"""Answers spoilt in known ways, by which a judge of coherence is calibrated and tested: one function a kind.

salad     the answer's words in random order
loop      a few words again and again, common ones or those that the instruction brings
random    tokens drawn from the whole vocabulary
cut       the answer ended in the middle
mixed     the first half of an answer, then the second half of an answer to another question
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from psr.types import JudgeItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEAST_WORDS = 6  # a shorter answer cannot be cut or mixed so that it shows
_LOOPS = (1, 2, 3, 4)  # words in a loop


@dataclass(frozen=True)
class _Source:
    """What answers are spoilt with: a tokenizer, and the words of loops by kind, the most typical first."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    common: tuple[str, ...]
    instructed: tuple[str, ...]


def spoil(
    tokenizer: PreTrainedTokenizerBase, plain: Sequence[JudgeItem], prompted: Sequence[JudgeItem], seed: int = 0
) -> Mapping[str, tuple[JudgeItem, ...]]:
    """kind -> the answers, plain and prompted, each spoilt in this way; too short ones are left out.

    Same seed, same texts. The length of an answer and whether it ended by itself stay, but for `cut`, which ends too early.
    """
    ordinary = Counter(word for item in plain for word in item.text.split())
    theirs = Counter(word for item in prompted for word in item.text.split())
    own = {word: count / (1 + ordinary[word]) for word, count in theirs.items()}
    source = _Source(
        tokenizer,
        len(tokenizer),
        tuple(word for word, _ in ordinary.most_common(12)),
        tuple(sorted(own, key=lambda word: (-own[word], word))[:12]),
    )
    items = [item for item in (*plain, *prompted) if len(item.text.split()) >= LEAST_WORDS]
    return {
        kind: tuple(_spoilt(kind, item, items, source, Random(f"{seed} {i}")) for i, item in enumerate(items))  # noqa: S311
        for kind in WAYS
    }


_Way = Callable[[list[str], list[str], _Source, Random], str]


def _spoilt(kind: str, item: JudgeItem, items: Sequence[JudgeItem], source: _Source, rng: Random) -> JudgeItem:
    other = rng.choice([other for other in items if other.question != item.question] or items)
    text = WAYS[kind](item.text.split(), other.text.split(), source, rng)
    return replace(item, completion=f"{item.completion} {kind}", text=text, finished=item.finished or kind == "cut")


def _salad(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    return " ".join(rng.sample(words, len(words)))


def _loop(typical: Sequence[str], length: int, rng: Random) -> str:
    few = rng.sample(typical, min(rng.choice(_LOOPS), len(typical)))
    return " ".join((few * length)[:length])


def _common(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    return _loop(source.common, len(words), rng)


def _instructed(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    return _loop(source.instructed, len(words), rng)


def _random(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    length = len(source.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"])
    ids = [rng.randrange(source.vocabulary) for _ in range(length)]
    return str(source.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _cut(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    """Ended after a quarter to three quarters, in the middle of a sentence where there is such a place."""
    places = range(max(1, len(words) // 4), max(2, 3 * len(words) // 4))
    inside = [at for at in places if words[at - 1][-1].isalnum()] or list(places)
    return " ".join(words[: rng.choice(inside)])


def _mixed(words: list[str], other: list[str], source: _Source, rng: Random) -> str:
    return " ".join(words[: len(words) // 2] + other[len(other) // 2 :])


WAYS: Mapping[str, _Way] = {
    "salad": _salad,
    "loop of common words": _common,
    "loop of the instruction's words": _instructed,
    "random tokens": _random,
    "cut": _cut,
    "mixed": _mixed,
}
