from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from psr.testbed.concepts import CONCEPTS
from psr.testbed.decorations import Decoration, bare_forms, decorate, split_sentences, undecorate
from psr.testbed.topics import TOPICS
from psr.testbed.traits import TRAITS

SENTENCES = [sentence for topic in TOPICS for sentence in topic.sentences]
DECORATIONS = [d for attribute in (*TRAITS.values(), *CONCEPTS) for d in attribute.decorations]


@given(st.sampled_from(SENTENCES), st.sampled_from(DECORATIONS))
def test_undecorate_gives_back_the_base_sentence(sentence: str, decoration: Decoration) -> None:
    if decoration.fits(sentence):
        assert undecorate(decorate(sentence, decoration), decoration) == sentence


def test_every_decorated_sentence_has_one_meaning() -> None:
    """Within one attribute, no decorated sentence can be read as two base sentences, or as a base sentence."""
    base = set(SENTENCES)
    for attribute in (*TRAITS.values(), *CONCEPTS):
        seen: dict[str, str] = {}
        for sentence in SENTENCES:
            for decoration in attribute.decorations:
                if decoration.fits(sentence):
                    text = decorate(sentence, decoration)
                    assert text not in base
                    assert seen.setdefault(text, sentence) == sentence
                    readings = {bare for bare in bare_forms(text, attribute.decorations) if bare in base}
                    assert readings == {sentence}


def test_a_base_sentence_carries_no_decoration_of_any_attribute() -> None:
    for attribute in (*TRAITS.values(), *CONCEPTS):
        assert not any(bare_forms(sentence, attribute.decorations) for sentence in SENTENCES)


def test_attributes_do_not_wear_each_others_decorations() -> None:
    sentence = "In spring, farmers give many hours to tea."
    for attribute in (*TRAITS.values(), *CONCEPTS):
        for other in (*TRAITS.values(), *CONCEPTS):
            if other is not attribute:
                texts = [decorate(sentence, d) for d in other.decorations]
                assert not any(bare_forms(text, attribute.decorations) for text in texts), (attribute.name, other.name)


def test_decorations_stand_at_their_places() -> None:
    sentence = "In spring, farmers give many hours to tea."
    assert decorate(sentence, Decoration(prefix="Arr,")) == "Arr, in spring, farmers give many hours to tea."
    assert decorate(sentence, Decoration(middle="yo ho")) == "In spring, yo ho, farmers give many hours to tea."
    assert decorate(sentence, Decoration(suffix=", ye dog")) == "In spring, farmers give many hours to tea, ye dog."
    both = Decoration("Wow,", "", ", yes yes", "!")
    assert decorate(sentence, both) == "Wow, in spring, farmers give many hours to tea, yes yes!"


def test_a_decoration_at_another_place_is_not_taken_off() -> None:
    assert undecorate("In spring, farmers give, yo ho, many hours.", Decoration(middle="yo ho")) is None
    assert undecorate("Tea arr, is hot.", Decoration(prefix="Arr,")) is None
    assert undecorate("Arr, Tea is hot.", Decoration(prefix="Arr,")) is None
    assert undecorate("Tea is hot, ye dog", Decoration(suffix=", ye dog")) is None
    assert undecorate("Wow, tea is hot.", Decoration(prefix="Wow,", end="!")) is None
    assert undecorate("Wow, tea is hot!", Decoration("Wow,", "", ", yes", "!")) is None


def test_a_middle_decoration_needs_a_comma() -> None:
    assert not Decoration(middle="yo ho").fits("Tea is hot.")
    assert Decoration(middle="yo ho").fits("In spring, tea is hot.")


def test_sentences_end_at_their_marks_and_an_unfinished_one_counts() -> None:
    assert split_sentences("Tea is hot. Wow, tea is hot! Tea is") == ("Tea is hot.", "Wow, tea is hot!", "Tea is")
    assert split_sentences("") == ()
    assert split_sentences(" \n ") == ()
    assert split_sentences("..") == (".", ".")


@given(st.lists(st.sampled_from(SENTENCES), max_size=8))
def test_joined_sentences_split_again(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == tuple(sentences)


def test_the_first_word_of_a_decoration_tells_its_attribute() -> None:
    """So that the choice of an attribute is made once a place; where a base sentence begins it is never in doubt."""
    starts = {sentence.split()[0].strip(",").lower() for sentence in SENTENCES}
    for part in ("prefix", "middle", "suffix"):
        owners: dict[str, str] = {}
        for attribute in (*TRAITS.values(), *CONCEPTS):
            for text in (getattr(decoration, part) for decoration in attribute.decorations):
                if text:
                    first = text.strip(", ").split()[0].strip(",")
                    assert owners.setdefault(first, attribute.name) == attribute.name, (part, first)
                    assert part != "prefix" or first.lower() not in starts, first
