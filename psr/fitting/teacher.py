"""The prompted model's next-token predictions, which the KL objective distils: p(· | x' y'_<i) for each label.

A plain run's position p predicts the same token as the instructed run's position p − (its start) + (the other start).
Predictions that fit `budget` bytes are computed once and kept in fp32; larger ones are computed again for each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.fitting.batches import Batch, TrainingSet
from psr.lm.cached import arguments
from psr.lm.padding import pad
from psr.types import Example

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

BUDGET = 1 << 30
CHUNK = 16  # examples a pass while predictions are computed once


def logits_to_end(lm: LanguageModel, ids: Tensor, attention: Tensor, first: int) -> Tensor:
    """Logits at the positions from `first` to the last but one, [batch, token, vocabulary]: what predicts the tokens after."""
    keep = ids.shape[1] - first
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": attention, "use_cache": False}
    if "logits_to_keep" in arguments(type(lm.model).forward):
        inputs["logits_to_keep"] = keep
    return lm.model(**inputs).logits[:, -keep:-1]


@dataclass(eq=False)
class Teacher:
    """Predictions of the instructed runs of `examples`. `kept`: [span token, vocabulary], once they are stored."""

    lm: LanguageModel
    examples: Sequence[Example]
    kept: Tensor | None = field(default=None, repr=False)

    def store(self, data: TrainingSet, vocabulary: int, budget: int = BUDGET) -> bool:
        """Compute every prediction once, if they fit `budget` bytes. data: the same examples. Returns whether they do."""
        tokens = sum(example.tokens.length for example in self.examples)
        if tokens * vocabulary * 4 > budget:
            return False
        kept = torch.zeros(tokens, vocabulary)
        for rows in data.length.argsort(stable=True).split(CHUNK):
            batch = data.batch(rows, self.lm.device)
            inside = batch.labels[:, batch.first_label :].cpu()
            kept[batch.index[:, batch.first_label - 1 : -1][inside]] = self._compute(batch).float().cpu()[inside]
        self.kept = kept
        return True

    def logits(self, batch: Batch) -> Tensor:
        """Predictions at the batch's positions first_label − 1 … last but one, [batch, token, vocabulary].

        Meaningful where the next token is a label.
        """
        if self.kept is None:
            return self._compute(batch)
        return self.kept[batch.index[:, batch.first_label - 1 : -1]].to(self.lm.device)

    @torch.no_grad()
    def _compute(self, batch: Batch) -> Tensor:
        chosen = [self.examples[row].tokens for row in batch.rows.tolist()]
        ids, attention = pad(
            [one.instructed_ids for one in chosen], self.lm.pad_id, side="right", device=self.lm.device
        )
        shift = torch.tensor([one.instructed_start - one.plain_start for one in chosen]).unsqueeze(-1)
        index = torch.arange(batch.first_label - 1, batch.ids.shape[1] - 1) + shift
        first = min(max(int(index.min()), 0), ids.shape[1] - 2)
        logits = logits_to_end(self.lm, ids, attention, first)
        index = (index - first).clamp(0, logits.shape[1] - 1).to(logits.device)
        return logits.gather(1, index.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))


def stored_teacher(lm: LanguageModel, examples: Sequence[Example], data: TrainingSet) -> Teacher:
    """The teacher of `examples` (data: the same, padded), its predictions computed once where they fit the budget."""
    one = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
    with torch.no_grad():
        logits = lm.model(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False).logits
    teacher = Teacher(lm, examples)
    teacher.store(data, logits.shape[-1])
    return teacher
