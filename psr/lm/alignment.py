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
from psr.types import AlignedTokens, PromptPair, Span

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
    if not response_ids:
        raise PsrError(
            "an answer without tokens cannot be aligned", where=f"pair {pair.id}", expected="at least one token"
        )
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


def _tail(prompt: Prompt, span: Span) -> int:
    """Number of prompt tokens in `span`."""
    return len(prompt.ids) - prompt.start(span)
