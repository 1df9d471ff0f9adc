"""Recording the residual stream: what each decoder block returns, before the final norm, at the span's tokens.

`hidden_states[-1]` of a Hugging Face model is after the final norm; hooks on the blocks are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.lm.blocks import ending_after, recorded
from psr.lm.padding import check_ids, pad

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Targets:
    """Activations at the span's tokens of n sequences, ragged.

    values: [layer, token, d] where sequence i owns tokens offsets[i]:offsets[i + 1]; offsets has n + 1 entries.
    layers: the decoder blocks recorded, 0-based. model: fingerprint. span: "R" or "QR".
    """

    values: Tensor
    offsets: tuple[int, ...]
    layers: tuple[int, ...]
    model: str
    span: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sequence(self, i: int) -> Tensor:
        """[layer, n_i, d]: the activations of sequence i."""
        return self.values[:, self.offsets[i] : self.offsets[i + 1]]

    @property
    def device(self) -> torch.device:
        """Where the values are; `at` takes its indices there."""
        return self.values.device

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """values[rows, tokens], for rows [layer] and tokens [batch, token]: [layer, batch, token, d]."""
        picked = self.values.new_empty(len(rows), tokens.numel(), self.values.shape[-1])
        for i, row in enumerate(rows.tolist()):  # whole rows are copied: twice as fast as an index of two tensors
            torch.index_select(self.values[row], 0, tokens.flatten(), out=picked[i])
        return picked.view(len(rows), *tokens.shape, -1)

    def last(self, lengths: Sequence[int], span: str) -> Targets:
        """The last lengths[i] tokens of each sequence: R is the end of QR. Raises PsrError when one is not that long."""
        keep = last_tokens(self.offsets, lengths, self.span, span)
        return Targets(self.values[:, keep], tuple(accumulate(lengths, initial=0)), self.layers, self.model, span)


def last_tokens(offsets: Sequence[int], lengths: Sequence[int], recorded: str, span: str) -> Tensor:
    """Where the last lengths[i] tokens of each sequence stand, [sum of lengths]; sequence i owns offsets[i]:offsets[i + 1].

    Raises PsrError when a sequence, recorded on span `recorded`, is not that long.
    """
    ends = offsets[1:]
    short = [i for i, n in enumerate(lengths[: len(ends)]) if n > ends[i] - offsets[i]]
    if short or len(lengths) != len(ends):
        raise PsrError(
            "a recording is shorter than the span asked of it",
            where=f"sequence {short[:1]}, span {span}",
            expected=f"{len(ends)} sequences of span {recorded}",
            got=f"{len(lengths)} lengths",
        )
    return torch.cat([torch.arange(end - n, end) for end, n in zip(ends, lengths, strict=True)])


def record(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    layers: Sequence[int],
    *,
    span: str,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], None] | None = None,
    around: Callable[[Sequence[int]], AbstractContextManager[object]] | None = None,
) -> Targets:
    """Run the model on token id sequences and keep the activations from each one's start to its end, on CPU.

    starts[i]: first kept position of sequence i. layers: decoder blocks, 0-based. span: "R" or "QR", kept with the result.
    dtype: in which the values are kept. progress(n) is called after each batch with the sequences done in it.
    around(rows): a context that is open during the forward of these sequences (right-padded, in this order).
    Raises PsrError for a layer that the model does not have or a start outside its sequence.

        >>> targets = psr.record(lm, [tokens.instructed_ids], [tokens.instructed_start], range(lm.n_layers), span="QR")
        >>> targets.values.shape == (lm.n_layers, tokens.length, lm.d_model)
        True
    """
    _check(lm, sequences, starts, layers)
    lengths = [len(ids) - start for ids, start in zip(sequences, starts, strict=True)]
    offsets = list(accumulate(lengths, initial=0))
    values = torch.empty((len(layers), offsets[-1], lm.d_model), dtype=dtype)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))  # alike lengths share a batch: less padding
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        with around(rows) if around else nullcontext():
            kept, tokens = _forward(
                lm, [sequences[i] for i in rows], [starts[i] for i in rows], [offsets[i] for i in rows], layers
            )
        values[:, tokens] = kept.to("cpu", dtype)
        if progress is not None:
            progress(len(rows))
    return Targets(values, tuple(offsets), tuple(layers), lm.fingerprint, span)


def _forward(
    lm: LanguageModel, sequences: list[Sequence[int]], starts: list[int], offsets: list[int], layers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """One right-padded batch: activations [layer, kept, d] and where each kept token goes in the ragged values."""
    ids, attention = pad(sequences, lm.pad_id, side="right", device=lm.device)
    with torch.inference_mode():
        with ending_after(lm.model, max(layers)), recorded(lm.model, layers) as activations:
            lm.base(input_ids=ids, attention_mask=attention, use_cache=False)
        position = torch.arange(ids.shape[1])
        start = torch.tensor(starts).unsqueeze(-1)
        inside = (position >= start) & attention.bool().cpu()
        tokens = (torch.tensor(offsets).unsqueeze(-1) + position - start)[inside]
        return torch.stack([activations[layer][inside.to(lm.device)] for layer in layers]), tokens


def _check(lm: LanguageModel, sequences: Sequence[Sequence[int]], starts: Sequence[int], layers: Sequence[int]) -> None:
    wrong = [layer for layer in layers if not 0 <= layer < lm.n_layers]
    if wrong or not layers:
        raise PsrError("no such layer to record", expected=f"0 to {lm.n_layers - 1}", got=wrong or "none")
    for i, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        if not 0 <= start < len(ids):
            raise PsrError(
                "a span lies outside its sequence", where=f"sequence {i}", expected=f"0 to {len(ids) - 1}", got=start
            )
        check_ids(ids, lm.vocabulary, f"sequence {i}")
        if len(ids) > lm.context:
            raise PsrError(
                "a sequence is longer than the model's context",
                where=f"sequence {i}",
                expected=f"at most {lm.context} tokens",
                got=len(ids),
                do="Use shorter questions or answers.",
            )
