"""The rows of the modules that the distill step wrote and of the alphas that the search found for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.tables.parquet import read_table


def module_rows(distill: Path, attribute: str | None = None) -> list[dict[str, Any]]:
    """Rows of modules.parquet, of one attribute or of all."""
    return read_table(distill / "modules.parquet", "modules", {"attribute": [attribute]} if attribute else None)


def rows_of_seed(distill: Path, attribute: str, seed: int | None) -> list[dict[str, Any]]:
    """The attribute's modules for one repetition: those fitted with `seed`, and those that no seed changes. None: all."""
    return [row for row in module_rows(distill, attribute) if seed is None or row["seed"] in (None, seed)]


def candidate_rows(search: Path, seed: int, module: str) -> list[dict[str, Any]]:
    """What the search found for a module in one repetition."""
    rows = read_table(search / "candidates.parquet", "candidates", {"module": [module]})
    return [row for row in rows if row["seed"] == seed]


def chosen_alpha(rows: Sequence[Mapping[str, Any]]) -> float:
    """The alpha of `candidates` that was chosen: of several points at the prompt's coherence, 0 where no other is as coherent."""
    chosen = {row["point"]: row["alpha"] for row in rows if row["chosen"]}
    return chosen["Cp"] if "Cp" in chosen else next(iter(chosen.values()))  # type: ignore[no-any-return]
