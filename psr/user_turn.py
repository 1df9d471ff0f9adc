"""Where the question begins in token ids that somebody else rendered, by the rule of psr.chats.encode_chat.

encode_chat compares a chat with and without its system turn. Whoever hands over token ids has only one of the two, so
the tokens that the chat template sets in front of every question are looked for instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psr.chats import PROBES, Prompt, common_suffix, encode_chat
from psr.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTIONS = ("Tell me more.", "why is it so?")  # they share no beginning, so what chats of them share is the template's


@dataclass(frozen=True)
class Landmark:
    """Tokens that stand in front of a question, and how far after their first one the span QR begins."""

    tokens: tuple[int, ...]
    offset: int

    def find(self, ids: Sequence[int]) -> int | None:
        """The first position of QR in `ids`, None where the tokens do not occur."""
        n = len(self.tokens)
        if n == 0:
            return None
        at = next((i for i in range(len(ids) - n + 1) if tuple(ids[i : i + n]) == self.tokens), None)
        return None if at is None else at + self.offset


@dataclass(frozen=True)
class UserTurn:
    """How one tokenizer's chats begin. plain: in front of the question without a system turn; after_system: with one.

    base: a tokenizer without a template, where all but the begin-of-text token is the question. unmarked: a system turn
    ends in nothing but white space, so that nobody can tell it from the question.
    """

    plain: Landmark
    after_system: Landmark
    unmarked: bool = False
    base: bool = False

    def start(self, ids: Sequence[int]) -> int | None:
        """The first position of QR in the ids of a prompt; None where it cannot be told."""
        if self.base:
            begin = self.plain.tokens
            return len(begin) if begin and tuple(ids[: len(begin)]) == begin else 0
        later = self.after_system.find(ids)
        if later is not None:
            return None if self.unmarked else later
        return self.plain.find(ids)


def user_turn(tokenizer: PreTrainedTokenizerBase) -> UserTurn:
    """What marks the user turn in the chats of `tokenizer`."""
    if tokenizer.chat_template is None:
        bos = encode_chat(tokenizer, (Message("user", _QUESTIONS[0]),)).ids[:1]
        return UserTurn(Landmark(bos if bos == (tokenizer.bos_token_id,) else (), 0), Landmark((), 0), base=True)
    plain, header = _asked(tokenizer, None)
    if plain.question < header:  # QR begins inside what the template sets in front of each question, with and without system turn
        return UserTurn(Landmark(plain.ids[plain.question : header], 0), Landmark((), 0))
    begin = Landmark(plain.ids[:header], plain.question)
    (one, n), (other, m) = (_asked(tokenizer, probe) for probe in PROBES[:2])
    shared = common_suffix(one.ids[:n], other.ids[:m])
    mark = one.ids[n - shared : n]
    unmarked = not tokenizer.decode(list(mark)).strip()
    return UserTurn(begin, Landmark(mark, one.question - (n - shared)), unmarked)


def _asked(tokenizer: PreTrainedTokenizerBase, instruction: str | None) -> tuple[Prompt, int]:
    """A chat's prompt, and how many tokens of it stand in front of the question."""
    system = () if instruction is None else (Message("system", instruction),)
    one, other = (encode_chat(tokenizer, (*system, Message("user", question))) for question in _QUESTIONS)
    pairs = zip(one.ids, other.ids, strict=False)
    return one, next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.ids), len(other.ids)))
