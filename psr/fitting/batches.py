"""The training set of a fit as rectangles: padded once, then every batch is a selection of rows.

Right padding: with causal attention no real token sees a padded one. A batch is trimmed to its longest row, and batches
gather rows of like length, in an order that the seed alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.presets import LabelSpan
from psr.lm.padding import pad
from psr.types import Example

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

POOL = 8  # batches that are sorted by length together: enough to save padding, few enough to keep batches mixed
MULTIPLE = 8  # accelerators reuse kernels and memory when lengths repeat


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples, right-padded. ids, attention: [batch, token] long; start: [batch] first position of the span;
    span: [batch, token] bool; labels: [batch, token] bool, the tokens that LL predicts; first_label: the smallest
    position of a label; trait: [batch] fp32; index: [batch, token] where each span token lies among all span tokens;
    rows: [batch] which examples they are.
    """

    ids: Tensor
    attention: Tensor
    start: Tensor
    span: Tensor
    labels: Tensor
    first_label: int
    trait: Tensor
    index: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """All examples as tensors on the CPU. ids: [example, token]; the others: [example]. negative: bool, Example.negative."""

    ids: Tensor
    length: Tensor
    start: Tensor
    label: Tensor
    trait: Tensor
    offset: Tensor
    negative: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def positives(self, rows: Tensor) -> Tensor:
        """Those of `rows` ([n] long) that are no negatives."""
        return rows[~self.negative[rows]]

    def batch(self, rows: Tensor, device: torch.device) -> Batch:
        """The examples `rows` ([batch] long) as one batch on `device`."""
        width = int(self.length[rows].max())
        if device.type != "cpu":
            width = min(-width // MULTIPLE * -MULTIPLE, self.ids.shape[1])
        position = torch.arange(width)
        length, start, label = (column[rows].unsqueeze(-1) for column in (self.length, self.start, self.label))
        real = position < length
        span = real & (position >= start)
        index = torch.where(span, self.offset[rows].unsqueeze(-1) + position - start, 0)
        tensors = (self.ids[rows, :width], real.long(), start.squeeze(-1), span, real & (position >= label))
        ids, attention, first, inside, labels = (tensor.to(device) for tensor in tensors)
        return Batch(ids, attention, first, inside, labels, int(label.min()), self.trait[rows].to(device), index, rows)


def training_set(examples: Sequence[Example], label_span: LabelSpan, pad_id: int) -> TrainingSet:
    """`examples` as tensors. Raises PsrError when there is none, or one has no answer."""
    if not examples:
        raise PsrError(
            "no examples to fit a module on",
            expected="at least one kept triplet",
            got="none",
            do="Look at what the selection dropped, and why.",
        )
    tokens = [example.tokens for example in examples]
    for i, one in enumerate(tokens):
        if one.response < 1 or not 0 <= one.plain_start < len(one.plain_ids) - one.response:
            raise PsrError(
                "an example cannot be fitted on",
                where=f"example {i}",
                expected="a span that holds an answer",
                got=f"start {one.plain_start}, {one.response} answer tokens of {len(one.plain_ids)}",
            )
    ids, attention = pad([one.plain_ids for one in tokens], pad_id, side="right")
    # The position before a label predicts it, so the first token that a steered position predicts is at start + 1.
    labels = [len(one.plain_ids) - one.response if label_span == "response" else one.plain_start + 1 for one in tokens]
    spans = torch.tensor([one.length for one in tokens])
    return TrainingSet(
        ids=ids,
        length=attention.sum(-1),
        start=torch.tensor([one.plain_start for one in tokens]),
        label=torch.tensor(labels),
        trait=torch.tensor([float(example.trait) for example in examples]),
        offset=spans.cumsum(0) - spans,
        negative=torch.tensor([example.negative for example in examples]),
    )


def rejected_set(lm: LanguageModel, examples: Sequence[Example]) -> TrainingSet:
    """The examples with their plain answers in place of y'. Raises PsrError where there is none, or it is too long."""
    plain = []
    for i, example in enumerate(examples):
        if not example.rejected:
            raise PsrError(
                "a preference needs the plain answer too",
                where=f"example {i}",
                expected="rejected tokens",
                got="none",
                do="Give Example(…, rejected=…).",
            )
        ids = (*example.prompt_ids, *example.rejected)
        if len(ids) > lm.context:
            raise PsrError(
                "a plain answer is longer than the model's context",
                where=f"example {i}",
                expected=f"at most {lm.context} tokens",
                got=len(ids),
                do="Leave it out.",
            )
        tokens = replace(example.tokens, plain_ids=ids, response=len(example.rejected))
        plain.append(replace(example, tokens=tokens))
    return training_set(plain, "response", lm.pad_id)


def epoch_batches(length: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch: every example once, in batches of like length. length: [example]. Yields rows, [batch] long.

    The examples are shuffled, sorted by length within pools of POOL batches, cut, and the batches of a pool shuffled.
    With a batch size of 1 this is a plain shuffle.
    """
    order = torch.randperm(len(length), generator=generator)
    for pool in order.split(POOL * batch_size):
        alike = pool[length[pool].argsort(stable=True)].split(batch_size)
        for i in torch.randperm(len(alike), generator=generator).tolist():
            yield alike[i]
