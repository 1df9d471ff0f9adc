"""Whether two testbeds are the same: equal files, and weights or figures within a tolerance.

The same seed gives the same weights on one machine with one number of threads. Elsewhere sums are rounded
differently and training amplifies that: the figures decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.testbed.measure import read_figures

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model/model.safetensors"
WEIGHT_TOLERANCE = 1e-3
FIGURE_TOLERANCE = {
    "trait": 6.0,
    "coherence": 4.0,
    "accuracy": 15.0,
    "concept": 0.3,
    "instruction": 0.3,
    "fluency": 0.3,
}
SAME_FILES = (
    "model/tokenizer.json",
    "model/chat_template.jinja",
    "persona/*/*.json",
    "ifeval/*.jsonl",
    "axbench/*.parquet",
)


@dataclass(frozen=True)
class Comparison:
    """files: those whose bytes differ. weights: the largest difference. figures: those further apart than tolerated."""

    files: tuple[str, ...]
    weights: float
    figures: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Equal files, and weights or figures within their tolerance."""
        return not self.files and (self.weights <= WEIGHT_TOLERANCE or not self.figures)

    @property
    def lines(self) -> tuple[str, ...]:
        """The comparison as lines of text."""
        exact = "within" if self.weights <= WEIGHT_TOLERANCE else "beyond"
        return (
            f"files that differ: {', '.join(self.files) or 'none'}",
            f"largest difference of a weight: {self.weights:.3g} ({exact} the tolerance of {WEIGHT_TOLERANCE})",
            f"figures further apart than tolerated: {'; '.join(self.figures) or 'none'}",
            f"the testbeds are {'the same' if self.same else 'different'}",
        )


def compare(one: Path, other: Path) -> Comparison:
    """Two folders that `python -m psr.testbed.build` wrote. Raises PsrError when one lacks its model or figures."""
    return Comparison(tuple(_differing_files(one, other)), _weights(one, other), tuple(_differing_figures(one, other)))


def _differing_files(one: Path, other: Path) -> Iterator[str]:
    names = {
        str(path.relative_to(root)) for root in (one, other) for pattern in SAME_FILES for path in root.glob(pattern)
    }
    for name in sorted(names):
        texts = [(root / name).read_bytes() if (root / name).is_file() else None for root in (one, other)]
        if texts[0] != texts[1]:
            yield name


def _weights(one: Path, other: Path) -> float:
    """The largest absolute difference; infinite when names or shapes differ."""
    first, second = (_load(root) for root in (one, other))
    if {name: tensor.shape for name, tensor in first.items()} != {
        name: tensor.shape for name, tensor in second.items()
    }:
        return float("inf")
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def _load(root: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(root / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise PsrError(
            "a testbed's weights cannot be read",
            where=root / WEIGHTS,
            got=str(error),
            do="Give a folder that python -m psr.testbed.build wrote.",
        ) from error


def _differing_figures(one: Path, other: Path) -> Iterator[str]:
    others = {(row["attribute"], row["instructions"]): row for row in read_figures(other)}
    for row in read_figures(one):
        key = (row["attribute"], row["instructions"])
        for name, tolerance in FIGURE_TOLERANCE.items():
            if name in row and abs(row[name] - others.get(key, {}).get(name, float("inf"))) > tolerance:
                yield f"{' '.join(key)}: {name} {row[name]} against {others.get(key, {}).get(name, 'nothing')}"
