"""Pairs and triplets: what is asked and what is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.answers.pairs import fit_pairs, held_out_pairs, spread
from psr.answers.selection import means, select
from psr.errors import PsrError
from psr.types import Attribute, Completion, Judgement, PromptPair

ATTRIBUTE = Attribute(
    "persona",
    "pirate",
    ("talk like a pirate", "be a pirate"),
    ("ahoy",),
    ("a?", "b?", "c?", "d?"),
    ("e?", "f?"),
    ("g?",),
    "rubric",
)
PAIR = PromptPair("persona/pirate", "a?", "be a pirate")


def completion(seed: int) -> Completion:
    return Completion(PAIR.id, "instructed", 0.0, seed, "m", "s", (1, 2), "arr", True)


values = st.one_of(st.none(), st.floats(0, 1))


@given(st.lists(st.tuples(values, values), max_size=20), st.one_of(st.none(), st.integers(0, 10)))
def test_kept_and_dropped_are_all_that_was_judged(judged, limit):
    completions = [completion(seed) for seed in range(len(judged))]
    trait = {c.id: t for c, (t, _) in zip(completions, judged, strict=True)}
    coherence = {c.id: v for c, (_, v) in zip(completions, judged, strict=True)}
    kept, dropped = select({PAIR.id: PAIR}, completions, trait, coherence, limit=limit)
    assert sorted([t.completion.id for t in kept] + [d.completion for d in dropped]) == sorted(
        c.id for c in completions
    )
    assert all(t.trait >= 0.5 and t.coherence >= 0.5 for t in kept)
    assert limit is None or len(kept) <= limit


def test_a_failed_judgement_is_dropped_as_not_judged_and_not_as_zero():
    c = completion(0)
    _, dropped = select({PAIR.id: PAIR}, [c], {c.id: None}, {c.id: 1.0})
    assert [d.reason for d in dropped] == ["not judged"]


def test_a_value_beyond_the_scale_is_a_label_within_it():
    c = completion(0)
    [triplet], _ = select({PAIR.id: PAIR}, [c], {c.id: 1.3}, {c.id: 1.0})
    assert (triplet.trait, triplet.coherence) == (1.0, 1.0)


def test_selection_does_not_depend_on_the_order_of_completions():
    completions = [completion(seed) for seed in range(9)]
    ones = {c.id: 1.0 for c in completions}
    forth = select({PAIR.id: PAIR}, completions, ones, ones, limit=4)
    assert forth == select({PAIR.id: PAIR}, completions[::-1], ones, ones, limit=4)


def test_means_are_shares_of_the_scale_and_keep_missing_values():
    judgements = [
        Judgement("a", "j", "1", "trait", 50.0, 100.0),
        Judgement("b", "j", "1", "trait", None, 100.0),
        Judgement("a", "j", "1", "coherence", 10.0, 100.0),
    ]
    assert means(judgements, "trait") == {"a": 0.5, "b": None}


def test_fitting_asks_every_question_with_every_instruction():
    pairs = fit_pairs(ATTRIBUTE, 2, 2)
    assert [(p.question, p.instruction) for p in pairs] == [
        ("a?", "talk like a pirate"),
        ("a?", "be a pirate"),
        ("c?", "talk like a pirate"),
        ("c?", "be a pirate"),
    ]


def test_evaluation_uses_unseen_paraphrases():
    assert {p.instruction for p in held_out_pairs(ATTRIBUTE, "search", 2)} == {"ahoy"}
    assert not {p.question for p in held_out_pairs(ATTRIBUTE, "evaluate", 1)} & set(ATTRIBUTE.questions)


def test_asking_for_more_questions_than_there_are_says_how_many_there_are():
    with pytest.raises(PsrError, match="fitting questions of persona/pirate as asked for, expected 1 to 4, got 9"):
        fit_pairs(ATTRIBUTE, 9, 1)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_spread_keeps_order_and_repeats_nothing(sizes):
    n, k = sizes
    items = [str(i) for i in range(n)]
    picked = spread(items, k, "items")
    assert len(set(picked)) == k
    assert list(picked) == sorted(picked, key=int)
