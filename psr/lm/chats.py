"""Chats as token ids, plain and instructed, for any chat template; and where the span QR begins in them.

A chat is rendered by the tokenizer's own template and the whole rendered string is tokenised once, without adding
special tokens again. A template that refuses or drops a system turn gets the instruction in front of the first user
turn; a base model without a template gets `instruction, blank line, question, new line`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psr.errors import PsrError
from psr.types import Chat, Message, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Instructions that end differently: what a plain prompt shares with all of them is due to the template, not to chance.
# They end with a mark, a letter and a line, because many tokenizers merge marks and line ends with those that follow.
PROBES = ("Answer in verse.", "Be as brief as you can", "What rhymes?\n")

_ORDERS = 256  # orders of roles that are remembered

ANSWER = "Quixotry."  # stands for an answer where what follows one is looked for

_PARTS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[str, tuple[str, ...]], bool | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Prompt:
    """A chat as token ids, up to where the answer begins; `encode_chat` makes one.

    ids: the tokens, the template's own included. question: the first position of span QR (0-based). response: the first
    position of span R, which is the last token of the prompt.
    """

    ids: tuple[int, ...]
    question: int

    @property
    def response(self) -> int:
        """First position of R: the last prompt token, which produces the first new one."""
        return len(self.ids) - 1

    def start(self, span: Span) -> int:
        """First steered position of `span`."""
        if span not in ("R", "QR"):
            raise PsrError("unknown span", expected="'R' or 'QR'", got=repr(span))
        return self.response if span == "R" else self.question


def encode_chat(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, context: int | None = None) -> Prompt:
    """`chat` as a Prompt, the template's generation prompt included.

    QR is the longest token suffix that the plain chat shares with instructed ones: everything from the last token of
    the system turn, or from the user turn when the plain chat has no system turn. It has the same length on both sides.

    Raises PsrError for an empty chat, one that does not end with a user turn, one that the template refuses, and one
    that leaves no room for an answer in `context` tokens.

        >>> prompt = psr.encode_chat(lm.tokenizer, (psr.Message("user", "Tell me about trains."),))
        >>> len(prompt.ids), prompt.question, prompt.response
        (9, 1, 8)
    """
    _check(chat)
    plain = tuple(message for message in chat if message.role != "system")
    encode = _encoder(tokenizer, plain)
    ids, plain_ids = encode(chat), encode(plain)
    if not ids:
        raise PsrError("the chat has no tokens", got=repr(chat[-1].content), do="Ask something the tokenizer knows.")
    if context is not None and len(ids) >= context:
        raise PsrError(
            "the chat is longer than the model's context",
            expected=f"fewer than {context} tokens",
            got=f"{len(ids)} tokens",
            do="Shorten the question or the instruction.",
        )
    probed = (encode((Message("system", probe), *plain)) for probe in PROBES)
    shared = min(shared_suffix(plain_ids, other) for other in (ids, *probed))
    return Prompt(ids, len(ids) - max(shared, 1))


def encode_turn(tokenizer: PreTrainedTokenizerBase, chat: Chat, question: str) -> tuple[int, ...]:
    """What lies between an answer to `chat` and the next one where `question` is asked: the end of the answer's turn, the
    question's turn, and how an answer begins.

    The tokens before it stay as they are, so that a key-value cache of them can be kept. Raises PsrError for a template
    that writes a turn in another way once another follows.
    """
    if tokenizer.chat_template is None:
        return tuple(tokenizer(f"\n{question}\n", add_special_tokens=False)["input_ids"])
    plain = tuple(message for message in chat if message.role != "system")
    arrange = (lambda chat: chat) if takes_system(tokenizer, plain) else _fold
    longer = (*chat, Message("assistant", ANSWER), Message("user", question))
    before, (head, _, tail) = render(tokenizer, arrange(chat)), render(tokenizer, arrange(longer)).partition(ANSWER)
    if not head.startswith(before) or head[len(before) :].strip():
        raise PsrError(
            "this chat template writes earlier turns in another way once another follows",
            where="a conversation with its cache kept",
            expected=repr(before[-60:]),
            got=repr(head[-60:]),
            do="Use a template that only adds to what it has written.",
        )
    return tuple(tokenizer(tail, add_special_tokens=False)["input_ids"])


def _check(chat: Chat) -> None:
    if not any(message.content.strip() for message in chat if message.role == "user"):
        raise PsrError(
            "the chat is empty",
            expected="a user turn with text",
            got=f"{len(chat)} turns without one",
            do="Ask something.",
        )
    if chat[-1].role != "user":
        raise PsrError(
            "the chat does not end with a user turn", got=f"a last turn by {chat[-1].role!r}", do="Add a question."
        )
    if any(message.role == "system" for message in chat[1:]):
        raise PsrError("a system turn in the middle of the chat", expected="at most one, in front")


def _encoder(tokenizer: PreTrainedTokenizerBase, plain: Chat) -> Callable[[Chat], tuple[int, ...]]:
    """How chats that differ from `plain` by their system turn only become ids; one decision for all instructions."""
    if tokenizer.chat_template is None:
        return lambda chat: _encode_base(tokenizer, chat)
    arrange = (lambda chat: chat) if takes_system(tokenizer, plain) else _fold
    return lambda chat: tuple(tokenizer(render(tokenizer, arrange(chat)), add_special_tokens=False)["input_ids"])


def takes_system(tokenizer: PreTrainedTokenizerBase, plain: Chat) -> bool:
    """Whether the template neither refuses nor drops a system turn."""
    probe = PROBES[0]
    try:
        rendered = render(tokenizer, (Message("system", probe), *plain))
        return rendered.count(probe) > sum(message.content.count(probe) for message in plain)
    except PsrError:
        return False


def _encode_base(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> tuple[int, ...]:
    """The prefix form, after the begin-of-text token if the tokenizer is used to set one; no token after the text."""
    instruction = f"{chat[0].content}\n\n" if chat[0].role == "system" else ""
    turns = chat[1:] if instruction else chat
    text = instruction + "\n".join(message.content for message in turns) + "\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos, with_special = tokenizer.bos_token_id, tokenizer(text)["input_ids"]
    begins = bos is not None and with_special[:1] == [bos] and ids[:1] != [bos]
    return (bos, *ids) if begins else tuple(ids)


def _fold(chat: Chat) -> Chat:
    """The instruction moved into the first user turn. Leading spaces of the question are removed, with it and without."""
    has_system = chat[0].role == "system"
    first, rest = chat[has_system], chat[has_system + 1 :]
    words, question = chat[0].content.strip() if has_system else "", first.content.lstrip()
    return (Message(first.role, f"{words}\n\n{question}" if words else question), *rest)


def render(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """The rendered chat, which holds every question. Content is a list of parts where the template drops plain text.

    Raises PsrError for a chat that the template refuses, and for a template that drops the question either way.
    """
    as_parts = _as_parts(tokenizer, chat)
    text = _render(tokenizer, chat, bool(as_parts))
    if as_parts is not None and _shows(text, chat):
        return str(text)
    text = _render(tokenizer, chat, as_parts=False)
    problem = text if isinstance(text, Exception) else None
    raise PsrError(
        "the model's chat template refuses this chat" if problem else "the model's chat template drops the question",
        expected="turns as the template wants them" if problem else "a text that holds every question",
        got=f"{type(problem).__name__}: {problem}" if problem else repr(str(text)[-80:]),
        do="Let user and assistant turns alternate, a user first."
        if problem
        else "Give the tokenizer a template for text.",
    ) from problem


def _as_parts(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> bool | None:
    """Whether the template wants content as a list of parts; None where it drops the questions in both forms.

    Tried once for each order of roles, and with questions of ours: a short one may be a part of the template itself.
    """
    answers = _PARTS.setdefault(tokenizer, {})
    key = (str(tokenizer.chat_template), tuple(message.role for message in chat))
    if key not in answers:
        if len(answers) >= _ORDERS:
            answers.clear()
        other = tuple(Message(role, f"What is {n + 0.25} of it?") for n, (role, _) in enumerate(chat))
        fits = (as_parts for as_parts in (False, True) if _shows(_render(tokenizer, other, as_parts), other))
        answers[key] = next(fits, None)
    return answers[key]


def _render(tokenizer: PreTrainedTokenizerBase, chat: Chat, as_parts: bool) -> str | Exception:
    """The chat as the template renders it, or the error that it raises, of whatever type."""
    messages: Any = [
        {"role": role, "content": [{"type": "text", "text": content}] if as_parts else content}
        for role, content in chat
    ]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        return error


def _shows(rendered: str | Exception, chat: Chat) -> bool:
    """Whether the rendered text holds each question, white space aside, and not as the text of a Python list."""
    if isinstance(rendered, Exception):
        return False
    text = " ".join(rendered.split())
    questions = [" ".join(message.content.split()) for message in chat if message.role == "user"]
    written_out = "{'type': 'text'" in text and not any("{'type': 'text'" in message.content for message in chat)
    return not written_out and all(question in text for question in questions)


def shared_suffix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common suffix."""
    length = 0
    for left, right in zip(reversed(a), reversed(b), strict=False):
        if left != right:
            break
        length += 1
    return length
