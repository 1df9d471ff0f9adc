"""Token-exact alignment of x y' with x' y': the same answer after the plain and after the instructed chat.

    Δ_PS[l, i] = A[l, i | x' y'] − A[l, i | x y']        (Eq. 3)

needs the same token on both sides of the minus. Prompts are tokenised, answers never are: their sampled ids are
appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.lm.chats import Prompt, encode_chat
from psr.types import AlignedTokens, Chat, PromptPair, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def align(
    tokenizer: PreTrainedTokenizerBase, pair: PromptPair, response_ids: Sequence[int], span: Span
) -> AlignedTokens:
    """x y' and x' y' with the first position of `span` in each; inside the spans the tokens are equal.

    response_ids: the answer's tokens as they were sampled, its end included. R starts at the last token of the prompt, so
    it has len(response_ids) + 1 positions; QR starts in the question.
    Raises PsrError when y' has no tokens, the instruction leaves no trace in the prompt, or the spans differ.

        >>> tokens = psr.align(lm.tokenizer, pair, pirate.token_ids, "R")
        >>> tokens.length - len(pirate.token_ids)
        1
        >>> tokens.plain_ids[tokens.plain_start :] == tokens.instructed_ids[tokens.instructed_start :]
        True
    """
    _check_tokens(response_ids, f"pair {pair.id}")
    plain, instructed = encode_chat(tokenizer, pair.plain), encode_chat(tokenizer, pair.instructed)
    if plain.ids == instructed.ids:
        raise PsrError(
            "the instruction leaves no trace in the prompt",
            where=f"pair {pair.id}",
            got=repr(pair.instruction),
            do="Give an instruction with words.",
        )
    shared = min(_tail(plain, span), _tail(instructed, span))
    if plain.ids[-shared:] != instructed.ids[-shared:]:
        raise PsrError(
            "the plain and the instructed prompt end with different tokens",
            where=f"pair {pair.id}, span {span}",
            expected=plain.ids[-shared:],
            got=instructed.ids[-shared:],
        )
    response = tuple(int(token) for token in response_ids)
    return AlignedTokens(
        plain_ids=plain.ids + response,
        instructed_ids=instructed.ids + response,
        plain_start=len(plain.ids) - shared,
        instructed_start=len(instructed.ids) - shared,
        response=len(response),
        span=span,
    )


def align_plain(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, response_ids: Sequence[int], span: Span
) -> AlignedTokens:
    """x y beside itself: the tokens of a negative, an example whose target is that nothing changes.

    chat: x. response_ids: the tokens of y, a plain answer to it. Raises PsrError when y has no tokens.

        >>> chat = (psr.Message("user", "Tell me about bees."),)
        >>> [bees] = psr.generate(lm, [psr.Request(psr.encode_chat(lm.tokenizer, chat), seed=0)], greedy)
        >>> negative = psr.Example(psr.align_plain(lm.tokenizer, chat, bees.token_ids, "QR"))
        >>> both = psr.learn(lm, [psr.Example(tokens), negative], method, range(lm.n_layers), module_id="both")
    """
    _check_tokens(response_ids, "a plain answer")
    prompt, response = encode_chat(tokenizer, chat), tuple(int(token) for token in response_ids)
    ids, start = prompt.ids + response, prompt.start(span)
    return AlignedTokens(ids, ids, start, start, len(response), span)


def _check_tokens(response_ids: Sequence[int], where: str) -> None:
    if not response_ids:
        raise PsrError("an answer without tokens cannot be aligned", where=where, expected="at least one token")


def _tail(prompt: Prompt, span: Span) -> int:
    """Number of prompt tokens in `span`."""
    return len(prompt.ids) - prompt.start(span)
