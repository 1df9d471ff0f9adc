"""Thinking and answer apart, for models that think before they answer: <think>…</think>answer.

The marks are those of the tokenizer's response template, or well-known ones that are tokens of its own or that its chat template
names. The answer is what follows the last end mark, as chat templates read it. A generation prompt may open thinking
itself; thinking that was opened and not ended has no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|channel>thought\n", "<channel|>"))
_FIELDS = ("reasoning_content", "thinking")  # what response templates call it
_TAIL = 16  # tokens of a prompt's end that may open thinking


class Said(NamedTuple):
    """What was thought and what was answered, without marks. ended: thinking was not left open."""

    thinking: str
    answer: str
    ended: bool


@dataclass(frozen=True)
class Marks:
    """Between what a model thinks. tokens: id -> text of the tokens that marks are made of; decoding may leave such out."""

    begin: str
    end: str
    tokens: Mapping[int, str]

    def opened(self, text: str) -> bool:
        """Whether a prompt that ends with `text` leaves thinking open."""
        return text.rstrip().endswith(self.begin.rstrip())


def marks(tokenizer: PreTrainedTokenizerBase) -> Marks | None:
    """The marks of thinking; None for a model that does not think."""
    added = tokenizer.get_added_vocab()
    begin, end = _own(tokenizer) or next(
        ((begin, end) for begin, end in _MARKS if end in added or end in str(tokenizer.chat_template)), ("", "")
    )
    tokens = {i: text for text, i in added.items() if text in begin or text in end}
    return Marks(begin, end, tokens) if end else None


def split(tokenizer: PreTrainedTokenizerBase, own: Marks | None, prompt: Sequence[int], ids: Sequence[int]) -> Said:
    """Thinking and answer in `ids`, what was sampled behind `prompt` (the stop token left out). own: the tokenizer's `marks`."""
    if own is None:
        return Said("", decoded(tokenizer, ids), True)
    return split_text(own, opens_thinking(tokenizer, own, prompt), _text(tokenizer, own, ids))


def split_text(own: Marks, opened: bool, text: str) -> Said:
    """Thinking and answer in `text`, the marks of thinking in it. opened: thinking was opened before it."""
    before, mark, after = text.rpartition(own.end)
    begin = own.begin.rstrip()
    reopened = after.lstrip().startswith(begin)
    if reopened or (not mark and opened):
        return Said(_without(begin, before + after), "", False)
    return Said(_without(begin, before), after.lstrip() if mark else after, True)


def opens_thinking(tokenizer: PreTrainedTokenizerBase, own: Marks, prompt: Sequence[int]) -> bool:
    """Whether the prompt leaves thinking open."""
    return own.opened(_text(tokenizer, own, prompt[-_TAIL:]))


def past_thinking(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[int, ...]:
    """The ids of a prompt, with the thinking that it opens ended: where an answer without thinking goes on."""
    own = marks(tokenizer)
    if own is None or not opens_thinking(tokenizer, own, ids):
        return tuple(ids)
    return (*ids, *tokenizer(f"\n{own.end}\n\n", add_special_tokens=False)["input_ids"])


def _own(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """The marks in the tokenizer's response template, where it has one and they are plain texts."""
    template: Any = getattr(tokenizer, "response_template", None) or {}
    field: dict[str, Any] = next((one for name, one in template.get("fields", {}).items() if name in _FIELDS), {})
    begin, end = field.get("open"), field.get("close")
    return (begin, end) if begin and end and isinstance(begin, str) and isinstance(end, str) else None


def _text(tokenizer: PreTrainedTokenizerBase, own: Marks, ids: Sequence[int]) -> str:
    """The text of `ids` with the marks in it, those that are special tokens too."""
    runs = groupby(ids, own.tokens.get)  # a mark's text, or None for what lies between
    return "".join(decoded(tokenizer, list(run)) if mark is None else mark * len(list(run)) for mark, run in runs)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of `ids`, special tokens left out."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _without(begin: str, text: str) -> str:
    """What was thought: `text` without the mark in front."""
    return text.strip().removeprefix(begin).strip()
