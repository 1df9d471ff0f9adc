"""Which questions are asked, and which sampling seeds belong to which repetition."""

import pytest

from psr.answers.pairs import held_out_pairs, sampling_seeds, spread
from psr.errors import PsrError
from psr.types import Attribute

ATTRIBUTE = Attribute("persona", "shy", ("be shy",), ("be quiet", "be timid"), ("f?",), ("s?",), ("a?", "b?", "c?"), "")


def test_without_a_number_all_are_asked_and_too_many_are_refused():
    assert [pair.question for pair in held_out_pairs(ATTRIBUTE, "evaluate", None)] == ["a?", "b?", "c?"]
    assert spread(("a", "b", "c", "d"), 2, "letters") == ("a", "c")
    with pytest.raises(PsrError, match="not as many letters as asked for, expected 1 to 2, got 3"):
        spread(("a", "b"), 3, "letters")


def test_every_fit_seed_has_sampling_seeds_of_its_own_and_the_first_keeps_its_own_when_more_are_added():
    assert sampling_seeds([123], 2, 2) == {123: (2, 3)}
    assert sampling_seeds([123, 7, 9], 2, 2) == {123: (2, 3), 7: (4, 5), 9: (6, 7)}
