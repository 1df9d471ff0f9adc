"""The text of an answer as its tokens come: whole characters only, thinking apart, nothing behind a stop string.

    said = TextStream(tokenizer, prompt.ids, stops=("\n\n",))
    for token in tokens:
        piece = said.add(token)     # what can be shown now: piece.text, piece.thinking
    rest = said.end()

All pieces together are what `generate` gives as text and thinking of the same tokens, cut at the first stop string; but
thinking that was never opened, or ends twice, was shown as text by the time its end comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from psr.lm.thinking import Said, decoded, marks, opens_thinking, split_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoding puts for bytes that are no whole character


class Piece(NamedTuple):
    """What has come to the text of an answer, and to the thinking before it."""

    text: str
    thinking: str = ""


class TextStream:
    """One answer's text. prompt: the ids before it, which may open thinking. stops: strings that end the answer, not part of it.

    shown: the answer's text that was given out; text: with what is held back, since it may be the beginning of a stop string.
    stopped: a stop string has come, and nothing more is said.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int] = (), stops: Sequence[str] = ()
    ) -> None:
        self._tokenizer, self._stops, self._marks = tokenizer, tuple(stops), marks(tokenizer)
        self._opened = self._marks is not None and opens_thinking(tokenizer, self._marks, prompt)
        self._raw, self._run, self._start, self._read = "", list[int](), 0, 0
        self.shown, self.text, self.stopped, self._thinking = "", "", False, ""

    def add(self, token: int) -> Piece:
        """What can be shown once this token is there. The answer's stop token is none of it."""
        mark = None if self._marks is None else self._marks.tokens.get(token)
        if mark is None:
            self._run.append(token)
            self._decode(whole=False)
        else:
            self._decode(whole=True)
            self._raw += mark
            self._run, self._start, self._read = [], 0, 0
        return self._piece(whole=False)

    def end(self) -> Piece:
        """What was held back."""
        self._decode(whole=True)
        return self._piece(whole=True)

    def _decode(self, whole: bool) -> None:
        """Text of the tokens that were not decoded yet, read behind the last ones that were: decoders look at what is before."""
        before, now = (decoded(self._tokenizer, self._run[self._start : end]) for end in (self._read, len(self._run)))
        new = now[len(before) :]
        if new and (whole or not now.endswith(_UNFINISHED)):
            self._raw += new
            self._start, self._read = self._read, len(self._run)

    def _piece(self, whole: bool) -> Piece:
        if self.stopped:
            return Piece("")
        raw, own = self._raw, self._marks
        if own is not None and not whole:
            raw = raw[: len(raw) - _held(raw, (own.begin, own.end))]
        said = Said("", raw, True) if own is None else split_text(own, self._opened, raw)
        self.text = said.answer
        found = [(at + len(stop), at) for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if found:  # the one that is whole first, as it would be if the text came letter by letter
            self.text, self.stopped = self.text[: min(found)[1]], True
        held = 0 if whole or self.stopped else _held(self.text, self._stops)
        if own is not None and not whole and not self.text.strip():
            held = len(self.text)  # thinking may begin yet
        shown = self.text[: len(self.text) - held]
        piece = Piece(_new(self.shown, shown), _new(self._thinking, said.thinking))
        self.shown, self._thinking = shown, said.thinking
        return piece


def _new(before: str, now: str) -> str:
    return now[len(before) :] if now.startswith(before) else now


def _held(text: str, strings: Sequence[str]) -> int:
    """The length of the longest end of `text` with which one of `strings` begins, none of them whole."""
    longest = max(map(len, strings), default=0) - 1
    ends = (n for n in range(min(longest, len(text)), 0, -1) if any(one.startswith(text[-n:]) for one in strings))
    return next(ends, 0)
