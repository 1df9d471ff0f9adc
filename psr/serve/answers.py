"""One answer as it comes: its text, its log-probabilities, why it ended, in the shapes that OpenAI's clients read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psr.answers.decoding import Token
from psr.answers.text_stream import TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that byte-level tokens write as themselves
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_OTHERS)}

Entry = dict[str, Any]


class Vocabulary:
    """The text and the bytes of single tokens, as they are behind others."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._before = tuple(tokenizer("a", add_special_tokens=False)["input_ids"])
        self._known: dict[int, tuple[str, list[int] | None]] = {}

    def entry(self, token: int, logprob: float) -> Entry:
        """What `logprobs` says of a token; bytes: null where nobody can tell."""
        if token not in self._known:
            self._known[token] = self._read(token)
        text, data = self._known[token]
        return {"token": text, "logprob": logprob, "bytes": data}

    def _read(self, token: int) -> tuple[str, list[int] | None]:
        both, before = self._decoded(*self._before, token), self._decoded(*self._before)
        text = both[len(before) :] if both.startswith(before) else self._decoded(token)
        if "\N{REPLACEMENT CHARACTER}" not in text:
            return text, list(text.encode())
        written = str(self._tokenizer.convert_ids_to_tokens(token))
        byte = _BYTE.fullmatch(written)
        data = [int(byte[1], 16)] if byte else [_BYTES[c] for c in written] if set(written) <= set(_BYTES) else None
        return (text if data is None else "bytes:" + "".join(f"\\x{one:02x}" for one in data)), data

    def _decoded(self, *ids: int) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@dataclass
class Delta:
    """What has come to an answer."""

    text: str = ""
    thinking: str = ""
    logprobs: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking or self.logprobs)

    def __iadd__(self, other: Delta) -> Delta:
        self.text, self.thinking = self.text + other.text, self.thinking + other.thinking
        self.logprobs += other.logprobs
        return self

    def message(self) -> dict[str, Any]:
        """The fields of a message, or of a part of one."""
        return {"content": self.text, **({"reasoning_content": self.thinking} if self.thinking else {})}


@dataclass
class AnswerStream:
    """One answer. tokens: sampled so far, with the stop token. finish: why it ended; None while it goes on.

    Log-probabilities are given out with the text that their token begins; those of thinking, of the stop token, and of what a
    stop string cut off are not.
    """

    vocabulary: Vocabulary
    said: TextStream
    tokens: int = 0
    finish: str | None = None
    _held: list[tuple[int, Entry]] = field(default_factory=list)

    def add(self, token: Token) -> Delta:
        """What has come to the answer with this token."""
        self.tokens += 1
        before, delta = len(self.said.text), Delta()
        if token.end != "stop":
            piece = self.said.add(token.id)
            delta = Delta(piece.text, piece.thinking)
            if token.logprob is not None and not piece.thinking:
                entry = self.vocabulary.entry(token.id, token.logprob)
                entry["top_logprobs"] = [self.vocabulary.entry(*one) for one in token.top]
                self._held.append((before, entry))
        if token.end or self.said.stopped:
            rest = self.said.end()
            delta.text, delta.thinking = delta.text + rest.text, delta.thinking + rest.thinking
            self.finish = "length" if token.end == "length" and not self.said.stopped else "stop"
        shown = len(self.said.shown)
        delta.logprobs = [entry for start, entry in self._held if start < shown]
        self._held = [(start, entry) for start, entry in self._held if start >= shown]
        return delta


def chunk(facts: Mapping[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """A part of a streamed answer."""
    return {**facts, "object": "chat.completion.chunk", "choices": choices}


def choice(delta: Mapping[str, Any], logprobs: list[Entry] | None, finish: str | None) -> dict[str, Any]:
    """The choice of a part. logprobs: None where they were not asked for."""
    named = None if logprobs is None else {"content": logprobs, "refusal": None}
    return {"index": 0, "delta": dict(delta), "logprobs": named, "finish_reason": finish}


def completion(facts: Mapping[str, Any], delta: Delta, logprobs: bool, finish: str, usage: Mapping[str, int]) -> Entry:
    """A whole answer."""
    message = {"role": "assistant", "refusal": None, **delta.message()}
    named = {"content": delta.logprobs, "refusal": None} if logprobs else None
    one = {"index": 0, "message": message, "logprobs": named, "finish_reason": finish}
    return {**facts, "object": "chat.completion", "choices": [one], "usage": usage}


def usage(prompt: int, new: int) -> dict[str, int]:
    """Tokens of the prompt and of the answer."""
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
