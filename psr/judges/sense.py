"""A crude coherence, so that rules can be used alone: is the answer written in words, without loops, and to its end?

    coherence = 100 · min(readable, varied) · ended
    readable    share of words that are words or numbers of at most 20 letters
    varied      share of three-word sequences that stand there for the first time
    ended       1 where the last line ends like a sentence or is an item of a list, else 0.8

It sees loops, broken encodings and strings of symbols. It does not see nonsense that is made of proper words, in whatever
order, nor whether the answer is to the question.
"""

from __future__ import annotations

import re

ORDINARY = re.compile(r"\W*(?:[^\W\d_]+(?:['’.\-–—/][^\W\d_]+)*['’]?|\d[\d.,:/%–\-]*[^\W\d_]{0,2})\W*")
LONGEST = 20
ENDED = re.compile(r"[.!?…][\"'”’»)\]*_]*\s*\Z|(?:\A|\n)\s*(?:[*•\-]|\d+[.)]) *\S[^\n]*\s*\Z")
CUT = 0.8


def rate_sense(text: str) -> float:
    """Coherence from 0 to 100; 0 for a text without a word.

    Example:
        rate_sense("The sky is blue because air scatters light.")  # 100.0
    """
    words = [word for word in text.split() if any(sign.isalnum() for sign in word)]
    if not words:
        return 0.0
    ordinary = [bool(ORDINARY.fullmatch(word)) and len(word) <= LONGEST for word in words]
    lower = [word.lower() for word in words]
    threes: list[tuple[str, ...]] = [*zip(lower, lower[1:], lower[2:], strict=False)] or [tuple(lower)]
    share = min(sum(ordinary) / len(words), len(set(threes)) / len(threes))
    return 100.0 * share * (1.0 if ENDED.search(text) else CUT)
