"""Everything answered and judged of one attribute in one repetition, on one set of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psr.evaluation.alpha_search import Scores
from psr.types import PLAIN, Completion, PromptPair
from tasks.figures.scores import Values, by_question, ratings_of, scores_of, values_of
from tasks.tables.parquet import read_completions, read_judgements, read_pairs, read_table

WITH_PROMPT = "+instructed"  # how completions of a module on top of the prompt are called (psr.answers.completions)


@dataclass(frozen=True)
class Side:
    """One set of questions with its completions. values: (completion, dimension) -> 0 to 100; ratings: 0 to 2."""

    pairs: Sequence[PromptPair]
    completions: Sequence[Completion]
    values: Values
    ratings: Values

    def of(self, method: str) -> list[Completion]:
        return [c for c in self.completions if c.method == method]

    def scores(self, module: str) -> Scores:
        """A module's trait and coherence; its alpha 0 are the plain completions."""
        return scores_of([*self.of(PLAIN), *self.of(module)], self.values, self.pairs)

    def rated(self, module: str) -> Scores:
        """A module's harmonic mean of AxBench's ratings by factor."""
        return scores_of(self.of(module), self.ratings, self.pairs, ("harmonic", "fluency"))

    def mean(self, method: str, dimension: str) -> Any:
        """[question]: 0 to 100."""
        return by_question(self.of(method), self.values, dimension, self.pairs)

    def rating(self, method: str, dimension: str, alpha: float | None = None) -> Any:
        """[question]: 0 to 2, of the completions at `alpha` (None: of all)."""
        asked = [c for c in self.of(method) if alpha in (None, c.alpha)]
        return by_question(asked, self.ratings, dimension, self.pairs)


def sides(answered: Path, judged: Path) -> dict[tuple[str, int], Side]:
    """(attribute, fit seed) -> its side, from what `answered` asked and sampled and the judgements in `judged`."""
    judgements = read_judgements(judged / "judgements.parquet")
    values, ratings = values_of(judgements), ratings_of(judgements)
    pairs: dict[str, list[PromptPair]] = {}
    home: dict[str, str] = {}
    for pair in read_pairs(answered / "pairs.parquet"):
        pairs.setdefault(pair.attribute, []).append(pair)
        home[pair.id] = pair.attribute
    found = {(row["attribute"], row["sampled"]): row["seed"] for row in read_table(answered / "draws.parquet", "draws")}
    completions: dict[tuple[str, int], list[Completion]] = {
        (attribute, seed): [] for (attribute, _), seed in found.items()
    }
    for completion in read_completions(answered / "completions.parquet"):
        attribute = home[completion.pair]
        completions[attribute, found[attribute, completion.seed]].append(completion)
    return {key: Side(pairs.get(key[0], ()), here, values, ratings) for key, here in completions.items()}
