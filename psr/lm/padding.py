"""Ragged token ids as a rectangular batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from psr.errors import PsrError

_Side = Literal["left", "right"]


def pad(
    sequences: Sequence[Sequence[int]], pad_id: int, side: _Side = "left", device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """`sequences` as (ids [B, T], attention [B, T]), both int64; T is the longest length, attention 1 on real tokens.

    Raises PsrError for a batch without sequences, a sequence without tokens or an unknown side.
    """
    if side not in ("left", "right"):
        raise PsrError("unknown padding side", expected="'left' or 'right'", got=repr(side))
    lengths = [len(sequence) for sequence in sequences]
    if not lengths or min(lengths) == 0:
        got = f"no token in row {lengths.index(0)}" if lengths else "no sequence"
        raise PsrError("nothing to pad", expected="at least one sequence, each with at least one token", got=got)
    width = max(lengths)
    ids = torch.full((len(lengths), width), pad_id, dtype=torch.long)
    attention = torch.zeros((len(lengths), width), dtype=torch.long)
    for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        first = width - length if side == "left" else 0
        ids[row, first : first + length] = torch.as_tensor(sequence, dtype=torch.long)
        attention[row, first : first + length] = 1
    return ids.to(device), attention.to(device)


def check_ids(ids: Sequence[int], vocabulary: int, where: str) -> None:
    """Raise PsrError for a token that a model with so many rows in its embedding does not have."""
    largest = max(ids, default=0)
    if largest >= vocabulary:
        raise PsrError(
            "the tokenizer has tokens that the model does not know",
            where=where,
            expected=f"ids below {vocabulary}, the rows of the embedding",
            got=f"up to {largest}",
            do="Load the model's own tokenizer, or resize the embedding (resize_token_embeddings).",
        )
