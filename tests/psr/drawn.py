"""Random examples of many lengths for the families' tokenizers."""

from __future__ import annotations

from dataclasses import replace

import torch

from psr.types import Example
from tests.psr.toy import example


def drawn(n: int, seed: int, span: str = "R", rejected: bool = False) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)

    def some(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(6, 250, (length,), generator=generator).tolist()

    examples = [example(some(3, 9), some(1, 14), 0.5 + 0.5 * i / n, span, word=251) for i in range(n)]
    return [replace(one, rejected=tuple(some(1, 9))) for one in examples] if rejected else examples
