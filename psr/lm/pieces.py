"""The text of every token, such that all of them joined are the text of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"  # stands for bytes that are no letter yet


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to those before it, special tokens included.

    A letter whose bytes are several tokens stands at the last of them; those before it are empty.
    """
    texts: list[str] = []
    context = written = (
        0  # the tokens from `context` to `written` are read again, since a token's text depends on those before it
    )
    for end in range(1, len(ids) + 1):
        before, now = _decode(tokenizer, ids[context:written]), _decode(tokenizer, ids[context:end])
        if (now.endswith(BROKEN) and end < len(ids)) or len(now) <= len(before):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        context, written = written, end
    return texts


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)) if ids else ""
