"""Everything answered and judged of one attribute in one repetition, on one set of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from psr.evaluation.alpha_search import Scores
from psr.evaluation.resampling import Array
from psr.types import PLAIN, Completion, PromptPair
from tasks.figures.scores import Values, by_question, rated, scores_of, values_of
from tasks.tables.parquet import read_completions, read_judgements, read_pairs, read_table

WITH_PROMPT = "+instructed"  # how completions of a module on top of the prompt are called (psr.answers.completions)


@dataclass(frozen=True)
class Side:
    """One set of questions with its completions. values: (completion, dimension) -> 0 to 100, None where the judge failed.

    judge: the id of the one who judged.
    """

    pairs: Sequence[PromptPair]
    completions: Sequence[Completion]
    values: Values
    judge: str = ""

    def of(self, method: str) -> list[Completion]:
        """The completions of plain, instructed, or a module by its id."""
        return [c for c in self.completions if c.method == method]

    def scores(self, module: str, dimensions: tuple[str, str] = ("trait", "coherence")) -> Scores:
        """A module's [alpha, question] of two dimensions; its alpha 0 are the plain completions."""
        return scores_of([*self.of(PLAIN), *self.of(module)], self.values, self.pairs, dimensions)

    def mean(self, method: str, dimension: str, alpha: float | None = None) -> Array:
        """[question]: 0 to 100, of the completions at `alpha` (None: of all)."""
        own = [c for c in self.of(method) if alpha in (None, c.alpha)]
        return by_question(own, self.values, dimension, self.pairs)

    def rates(self, dimension: str) -> bool:
        """Whether any of the completions has a value of it."""
        return any(self.values.get((c.id, dimension)) is not None for c in self.completions)

    def rated(self, method: str, dimensions: Sequence[str]) -> Side:
        """The method's completions alone, with ratings from 0 to 2 as values and their harmonic mean as "harmonic"."""
        own = self.of(method)
        return replace(self, completions=own, values=rated(self.values, dimensions, own))


def sides(answered: Path, judged: Path) -> dict[tuple[str, int], Side]:
    """(attribute, fit seed) -> its side, from what `answered` asked and sampled and the judgements in `judged`."""
    judgements = read_judgements(judged / "judgements.parquet")
    values, judges = values_of(judgements), {one.completion: one.judge for one in judgements}
    pairs: dict[str, list[PromptPair]] = {}
    attribute_of: dict[str, str] = {}
    for pair in read_pairs(answered / "pairs.parquet"):
        pairs.setdefault(pair.attribute, []).append(pair)
        attribute_of[pair.id] = pair.attribute
    seeds = {(row["attribute"], row["sampled"]): row["seed"] for row in read_table(answered / "draws.parquet", "draws")}
    completions: dict[tuple[str, int], list[Completion]] = {
        (attribute, seed): [] for (attribute, _), seed in seeds.items()
    }
    for completion in read_completions(answered / "completions.parquet"):
        attribute = attribute_of[completion.pair]
        completions[attribute, seeds[attribute, completion.seed]].append(completion)
    return {
        key: Side(pairs.get(key[0], ()), own, values, judges.get(own[0].id, "") if own else "")
        for key, own in completions.items()
    }
