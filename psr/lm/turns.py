"""Where the question begins in token ids that somebody else rendered, by the rule of psr.lm.chats.encode_chat.

encode_chat compares a chat with and without its system turn. Whoever hands over token ids has only one of the two, so
the tokens that the chat template sets in front of every question are looked for, and what follows them is compared with
the same text behind the beginnings of other chats. A template without system turns makes no difference between an
instruction and a question: there, all of the first user turn is the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.lm.chats import PROBES, encode_chat, render, shared_suffix, takes_system
from psr.types import Chat, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Ids = tuple[int, ...]
_QUESTIONS = (
    "Tell me more.",
    "why is it so?",
)  # they share no beginning, so what chats of them share is the template's


@dataclass(frozen=True, eq=False)
class UserTurn:
    """How the user turn is known in the chats of one tokenizer.

    header: tokens in front of each question, with and without a system turn, from the first position of QR on; () where
    QR begins with the question itself. Then: begin, the tokens in front of a question without a system turn; mark, those
    between a system turn and the question; heads, the texts in front of the question in chats with other instructions.
    """

    tokenizer: PreTrainedTokenizerBase
    header: _Ids = ()
    begin: _Ids = ()
    mark: _Ids = ()
    heads: tuple[str, ...] = ()

    def start(self, ids: Sequence[int]) -> int | None:
        """The first position of QR in the ids of a prompt; None where it cannot be found."""
        if self.tokenizer.chat_template is None:
            return self._of_base(ids)
        if self.header:
            return None if self._merged(self.header, ids) else _find(self.header, ids)
        if self.mark and self._merged(self.mark, ids):
            return None
        at = _find(self.mark, ids) if self.mark else None
        if at is not None:
            # a blank line may end a system turn or be a part of a question; so may a mark that occurs twice
            once = self._text(self.mark).strip() and _find(self.mark, ids[at + 1 :]) is None
            return self._behind(ids, at + len(self.mark)) if once else None
        return self._behind(ids, len(self.begin)) if tuple(ids[: len(self.begin)]) == self.begin else None

    def _of_base(self, ids: Sequence[int]) -> int:
        """Without a template the whole text is the question, as encode_chat writes it: with a line end behind it."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        for question in (text.removesuffix("\n"), text.removesuffix("\n")[1:]):  # some tokenizers set a space in front
            prompt = encode_chat(self.tokenizer, (Message("user", question),)) if question.strip() else None
            if prompt is not None and prompt.ids == tuple(ids):
                return prompt.question
        return int(list(ids[:1]) == [self.tokenizer.bos_token_id])

    def _merged(self, tokens: _Ids, ids: Sequence[int]) -> bool:
        """Whether the text of `tokens` stands in front of where they are found: there it merged with a question."""
        at, text = _find(tokens, ids), self._text(tokens).strip()
        return bool(text) and text in self._text(ids if at is None else ids[:at])

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def _behind(self, ids: Sequence[int], at: int) -> int | None:
        """The start of what stays the same behind every head, where the question begins at `at`.

        Read from as long a beginning of the question as the tokenizer gives back; None where it gives none back.
        """
        if not self.heads:
            return at
        end = len(ids)
        while end > at:
            rest = self._text(ids[at:end])
            others = [self.tokenizer(head + rest, add_special_tokens=False)["input_ids"] for head in self.heads]
            shared = [shared_suffix(ids[:end], other) for other in others]
            if max(shared) >= end - at:
                return min(end - min(shared), len(ids) - 1)
            end = at + (end - at) // 2
        return None


def user_turn(tokenizer: PreTrainedTokenizerBase) -> UserTurn:
    """What marks the user turn in the chats of `tokenizer`. Raises PsrError where a system turn moves to a later one."""
    if tokenizer.chat_template is None:
        return UserTurn(tokenizer)
    plain, begin = _chat_and_head(tokenizer, None)
    takes = takes_system(tokenizer, plain)
    if takes:
        _check_in_front(tokenizer)
    start = encode_chat(tokenizer, plain).question
    if start < len(begin):
        return UserTurn(tokenizer, header=begin[start:])
    if not takes:
        return UserTurn(tokenizer, begin=begin)
    chats = [_chat_and_head(tokenizer, probe) for probe in PROBES]
    heads = [render(tokenizer, chat).partition(_QUESTIONS[0])[0] for chat in (plain, *(chat for chat, _ in chats))]
    (_, one), (_, other) = chats[:2]
    shared = shared_suffix(one, other)
    return UserTurn(tokenizer, begin=begin, mark=one[len(one) - shared :], heads=tuple(heads))


def _chat_and_head(tokenizer: PreTrainedTokenizerBase, instruction: str | None) -> tuple[Chat, _Ids]:
    """A chat with this instruction, and its tokens in front of the question."""
    system = () if instruction is None else (Message("system", instruction),)
    chats = [(*system, Message("user", question)) for question in _QUESTIONS]
    one, other = (encode_chat(tokenizer, chat).ids for chat in chats)
    pairs = zip(one, other, strict=False)
    return chats[0], one[: next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))]


def _check_in_front(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse templates that set a system turn in front of the last question: then earlier questions are not in QR."""
    turns = (Message("user", _QUESTIONS[0]), Message("assistant", "So it is."), Message("user", _QUESTIONS[1]))
    text = render(tokenizer, (Message("system", PROBES[0]), *turns))
    if text.find(PROBES[0]) > text.find(_QUESTIONS[0]):
        raise PsrError(
            "this chat template moves the system turn behind earlier questions",
            where="span QR",
            expected="a system turn in front",
            do="Pass start=encode_chat(tokenizer, chat).start('QR').",
        )


def _find(tokens: _Ids, ids: Sequence[int]) -> int | None:
    """The first position of `tokens` in `ids`."""
    n = len(tokens)
    return next((i for i in range(len(ids) - n + 1) if tuple(ids[i : i + n]) == tokens), None)
