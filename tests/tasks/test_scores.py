"""Judged completions become arrays without losing a question or counting a failed judgement as 0."""

import numpy as np

from psr.types import Completion, Judgement, PromptPair
from tasks.figures.scores import by_question, scores_of, values_of

PAIRS = [PromptPair("persona/pirate", q, "be a pirate") for q in ("a?", "b?")]


def made(pair: int, alpha: float, seed: int = 0) -> Completion:
    return Completion(PAIRS[pair].id, "module", alpha, seed, "m", "s", (1,), "arr", True)


def judged(completion: Completion, trait: float | None, coherence: float | None = 100.0) -> list[Judgement]:
    return [Judgement(completion.id, "j", "1", d, v, 100.0) for d, v in (("trait", trait), ("coherence", coherence))]


def test_alphas_are_rows_ascending_and_questions_are_columns_in_order():
    cs = [made(1, 2.0), made(0, 2.0), made(0, 1.0), made(1, 1.0)]
    values = values_of([j for c, t in zip(cs, (1, 2, 3, 4), strict=True) for j in judged(c, t)])
    scores = scores_of(cs, values, PAIRS)
    assert scores.alphas == (1.0, 2.0)
    assert scores.trait.tolist() == [[3, 4], [2, 1]]


def test_a_failed_judgement_is_nan_and_leaves_the_other_samples_mean():
    cs = [made(0, 1.0, 0), made(0, 1.0, 1), made(1, 1.0)]
    values = values_of([*judged(cs[0], None), *judged(cs[1], 40), *judged(cs[2], None)])
    trait = by_question(cs, values, "trait", PAIRS)
    assert trait[0] == 40
    assert np.isnan(trait[1])


def test_values_are_shares_of_each_judgements_own_scale():
    c = made(0, 1.0)
    assert values_of([Judgement(c.id, "j", "1", "concept", 1.0, 2.0)])[c.id, "concept"] == 50
