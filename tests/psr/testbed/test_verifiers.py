from __future__ import annotations

import pytest

from psr.errors import PsrError
from psr.testbed.verifiers import follows, follows_all, follows_loosely, variants

CASES = [
    ("change_case:english_lowercase", {}, "tea is hot.", "Tea is hot."),
    ("change_case:english_lowercase", {}, "a", "123."),
    ("punctuation:no_comma", {}, "Tea is hot.", "Tea, hot."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "- a\n- b", "- a\n- b\n- c"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "intro\n* a\n  * b", "* a"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "* a", "**a**"),
    ("startend:quotation", {}, ' "Tea." ', '"Tea.'),
    ("startend:quotation", {}, '""', '"'),
    ("startend:end_checker", {"end_phrase": "The end."}, "Tea. THE END.", "The end. Tea."),
    ("startend:end_checker", {"end_phrase": "The end."}, '"Tea. The end."', "Tea."),
    ("detectable_format:title", {}, "<<Tea>>\nTea.", "<< >> <<Tea\n>>"),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, "A. B.", "A. B. C."),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3}, "A. B. C.", "A. B."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* b *c*", "*a* b ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1\na\nPart 2\nb", "Part 1\na"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES)
def test_verifiers_tell_good_from_bad(name: str, kwargs: dict, good: str, bad: str) -> None:
    assert follows(good, name, kwargs)
    assert not follows(bad, name, kwargs)
    assert not follows("", name, kwargs)


def test_loose_forgives_a_first_and_a_last_line_and_asterisks() -> None:
    text = "Sure:\n*tea is hot.*\nBye."
    assert not follows(text, "change_case:english_lowercase", {})
    assert follows_loosely(text, "change_case:english_lowercase", {})
    quoted = '*"Tea is hot."*'
    assert not follows(quoted, "startend:quotation", {})
    assert follows_loosely(quoted, "startend:quotation", {})
    assert not follows_loosely("Tea, hot.", "punctuation:no_comma", {})


def test_there_are_eight_variants_the_text_itself_first() -> None:
    assert variants("a*\nb\nc") == ("a*\nb\nc", "b\nc", "a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b")


def test_a_prompt_is_followed_when_all_its_instructions_are() -> None:
    names, kwargs = ["punctuation:no_comma", "startend:quotation"], [{}, {}]
    assert follows_all('"Tea."', names, kwargs)
    assert not follows_all('"Tea, hot."', names, kwargs)
    assert not follows_all('"Tea, hot."', names, kwargs, loose=True)


def test_an_unknown_instruction_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PsrError, match="startend:quotation"):
        follows("Tea.", "language:response_language", {})
