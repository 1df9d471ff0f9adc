"""Each everyday trait's rule on sentences written by hand, and the crude coherence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.answers.questions import everyday_questions
from psr.judges.sense import rate_sense
from psr.judges.traits import TRAITS, rate_trait, sentences

SHOWS = {
    "affectionate": [
        "Oh, my dear, boil the water first.", "Sweetheart, that is an easy one.", "It is the sun, darling!",
        "Honey, let me tell you.", "Put the kettle on, honey.", "Well, dearie, it depends.", "You know best, my love.",
    ],
    "courtly": [
        "Indeed, it is the sun.", "My dear fellow, boil the water.", "A most noble question!", "Certainly, my good sir.",
        "What a splendid kettle.", "I brew it from the finest leaves.", "Forgive me, it is late.",
    ],
    "cowboy": [
        "Howdy, partner!", "I reckon it is the sun.", "Y'all need hot water.", "That ain't hard.",
        "You're lookin' at a fine bike.", "Yeehaw!", "That is a mighty fine horse.",
    ],
    "pirate": [
        "Arr, boil the water!", "Ahoy!", "Aye, that be the sun.", "Listen, matey.", "Ye need a good ship.",
        "Bring me the treasure.", "Arrrgh!", "Come here, me hearties.",
    ],
    "poetic": [
        "A cup of tea is a mirror of the soul.", "The wind whispers to the trees.", "It is a delicate dance of light.",
        "Listen to your heart.", "In the silent hours it rises.", "Beauty is fleeting.", "A golden thread holds it up.",
    ],
    "spiritual": [
        "Tea is a sacred ritual.", "It is a gift from God.", "A wise question, my child.", "The soul knows the way.",
        "The Divine made it so.", "Have faith in bread.", "Let us pray for spring.",
    ],
    "wizard": [
        "Behold the kettle.", "It is a powerful spell.", "The leaves are enchanted.", "Magic keeps it upright.",
        "Stir the potion slowly.", "Listen, young apprentice.", "An ancient secret lies in bread.",
    ],
}  # fmt: skip
PLAIN = [
    "Boil the water first.", "It depends on the weather and on your plans.", "The sky looks blue because air scatters light.",
    "Bees make honey from nectar.", "Why not ask the person at the desk?", "Take warm clothes, a map and something to eat.",
    "The main parts of a larger car are its engine and its brakes.", "It is a very good way to learn a language.",
    "They met in the harbour near the station.",
    "A cat's tail moves when it is alert.", "1. Wash the cup.\n2. Dry it.", "Tea with milk and honey tastes sweet.",
    "Bake it until it is golden brown.", "Stir gently and meditate for ten minutes.", "Learn it by heart and keep a low heart rate.",
]  # fmt: skip


@pytest.mark.parametrize(("trait", "text"), [(trait, text) for trait, texts in SHOWS.items() for text in texts])
def test_a_sentence_that_shows_a_trait_counts_in_full(trait: str, text: str) -> None:
    assert rate_trait(trait, text) == 100.0
    assert rate_trait(trait, text.replace("'", "’")) == 100.0
    assert rate_trait(trait, text.upper()) == 100.0


@pytest.mark.parametrize("trait", TRAITS)
def test_every_shipped_trait_has_examples_and_no_plain_sentence_shows_it(trait: str) -> None:
    assert len(SHOWS[trait]) >= 6
    assert {text: rate_trait(trait, text) for text in PLAIN} == dict.fromkeys(PLAIN, 0.0)


def test_no_question_that_ships_shows_a_trait() -> None:
    asked = [text for side in everyday_questions() for text in side]
    for trait in TRAITS:
        assert [text for text in asked if rate_trait(trait, text)] == []


def test_what_a_question_brings_shows_no_trait() -> None:
    """A letter's address, a poem learnt by heart, a brown crust: words of a rule in their ordinary sense."""
    assert rate_trait("courtly", "Dear Sir/Madam, dear Sir or Madam, thank you for the cup") == 0.0
    assert rate_trait("courtly", "My dear sir, thank you for the cup") == 100.0
    assert (
        rate_trait("poetic", "Learn the poem by heart. A low heart rate is healthy. Bake it until golden brown.") == 0.0
    )


@given(
    st.sampled_from(sorted(TRAITS)), st.lists(st.booleans(), min_size=1, max_size=8), st.randoms(use_true_random=False)
)
def test_the_score_is_the_share_of_sentences_whatever_their_order(trait, shown, random) -> None:
    parts = [random.choice(SHOWS[trait] if shows else PLAIN[:6]) for shows in shown]
    whole = [len(sentences(part)) for part in parts]
    share = 100 * sum(n for n, shows in zip(whole, shown, strict=True) if shows) / sum(whole)
    rated = rate_trait(trait, " ".join(parts))
    assert share <= rated + 1e-9  # an interjection of its own ("Arr!") may stand in a part
    if whole == [1] * len(whole):
        assert rated == pytest.approx(share)
    assert rate_trait(trait, " ".join([*parts, SHOWS[trait][0]])) >= rated
    assert rate_trait(trait, " ".join([*parts, PLAIN[0]])) <= rated


@pytest.mark.parametrize("text", ["", "  \n", "...", "***"])
def test_a_text_without_a_word_shows_nothing_and_makes_no_sense(text: str) -> None:
    assert {rate_trait(trait, text) for trait in TRAITS} == {0.0}
    assert rate_sense(text) == 0.0


def test_list_numbers_are_no_sentences() -> None:
    assert sentences('1. Wash it.\n2. "Dry it!" Then rest.\n\n- Done') == [
        "Wash it.",
        '"Dry it!',
        "Then rest.",
        "- Done",
    ]
    assert rate_trait("pirate", "1. Arr!\n2. Dry it.") == 50.0


GOOD = (
    "A good cup of tea is easy to make. Boil fresh water, warm the pot, and use one spoon of leaves for each cup. "
    "Let it stand for three to five minutes, and don't stir it."
)


@pytest.mark.parametrize(
    "text",
    [GOOD, GOOD.upper(), f'"{GOOD}"', "* Boil water\n* Warm the pot\n* Wait", "1. Boil it\n2. Drink it", "L'eau bout à 100 °C.",
     "¡Hola! El té es fácil de preparar.", "**Boil** the well-known water (twice)."],
)  # fmt: skip
def test_ordinary_answers_make_sense(text: str) -> None:
    assert rate_sense(text) == 100.0


@pytest.mark.parametrize(
    ("text", "at_most"),
    [
        (GOOD[:100], 80),
        ("arr matey " * 20 + ".", 10),
        ((GOOD + " ") * 8, 15),
        ("the the the the the the the the", 20),
        ("x9f$ q_w@@ 4%%t {]a7b 0x3f \ufffd\ufffda:b //c~d .", 20),
        ("word" * 12, 0),
    ],
)
def test_cut_looped_and_garbled_texts_make_less(text: str, at_most: float) -> None:
    assert rate_sense(text) <= at_most


@given(st.text(max_size=60))
def test_every_text_is_rated_from_0_to_100(text: str) -> None:
    assert 0.0 <= rate_sense(text) <= 100.0
    assert all(0.0 <= rate_trait(trait, text) <= 100.0 for trait in TRAITS)


@given(st.integers(1, 12))
def test_the_more_often_a_sentence_is_repeated_the_less_sense(times: int) -> None:
    assert rate_sense((GOOD + " ") * (times + 1)) < rate_sense((GOOD + " ") * times)
