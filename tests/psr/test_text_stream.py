"""Text as its tokens come: together what decoding says of all of them, never half a character, never beyond a stop string."""

import pytest
from families import KINDS, family, tokenizer
from hypothesis import given
from hypothesis import strategies as st
from test_thinking import thinks

from psr.answers.text_stream import TextStream
from psr.lm.loading import load_model
from psr.lm.thinking import marks, split
from tests.conftest import ROOT

every_kind = pytest.mark.parametrize("kind", KINDS)


def pieces_of(using, ids, stops=(), prompt=()):
    stream = TextStream(using, prompt, stops)
    return [*(stream.add(i) for i in ids), stream.end()]


def text_of(using, ids, stops=()):
    return "".join(piece.text for piece in pieces_of(using, ids, stops))


def ids_of(using, text):
    return using(text, add_special_tokens=False)["input_ids"]


@every_kind
@given(ids=st.lists(st.integers(0, 299), max_size=30))
def test_the_pieces_of_any_tokens_are_together_what_decoding_says(kind, ids):
    using = tokenizer("system", kind)
    known = [i for i in ids if i < len(using)]
    assert text_of(using, known) == using.decode(known, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_the_testbeds_tokens_too():
    using = load_model(ROOT / "data/testbed/model").tokenizer
    ids = ids_of(using, "Arr, matey, children love trains for the steady noise. Steel rails cost ten coins, and so on!")
    assert text_of(using, ids) == using.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert len([piece for piece in pieces_of(using, ids) if piece.text]) > 10


@given(text=st.text(st.sampled_from("añ€😀 б.\n"), max_size=12))
def test_no_piece_has_half_a_character(text):
    using = tokenizer("system", "byte")
    pieces = pieces_of(using, ids_of(using, text))
    assert "".join(piece.text for piece in pieces) == text
    assert all("�" not in piece.text for piece in pieces)


def test_bytes_that_never_become_a_character_are_shown_in_the_end_as_decoding_shows_them():
    using = tokenizer("system", "byte")
    ids = ids_of(using, "a😀")[:-1]
    pieces = pieces_of(using, ids)
    assert [piece.text for piece in pieces[:-1] if piece.text] == ["a"]
    assert pieces[-1].text == using.decode(ids)[1:]


words = st.text(st.sampled_from("ab. \n"), min_size=1, max_size=4)


@given(text=st.text(st.sampled_from("ab. \n"), max_size=25), stops=st.lists(words, max_size=4))
def test_the_text_ends_before_the_first_stop_string_wherever_tokens_begin_and_end(text, stops):
    using = tokenizer("system", "byte")
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    stream, shown = TextStream(using, (), stops), ""
    for i in ids_of(using, text):
        shown += stream.add(i).text
        assert expected.startswith(shown)
        if stream.stopped:
            break
    assert shown + stream.end().text == expected
    assert stream.stopped == bool(ends)


def test_what_cannot_begin_a_stop_string_is_shown_at_once():
    using = tokenizer("system", "byte")
    pieces = pieces_of(using, ids_of(using, "abcabx"), ["abcd"])
    assert [piece.text for piece in pieces] == ["", "", "", "abc", "", "abx", ""]
    assert family("llama").tokenizer.decode(ids_of(using, "abx")) == "abx"


@pytest.mark.parametrize("kind", ["special", "token", "text"])
@pytest.mark.parametrize("said", [
    "<think>one two</think>\n\nthe sun", "<think>one", "the sun", "<think></think>the sun", " \n<think> a\n</think> b ",
    "<thi", "a < b", "</think>the sun", "<think>a</think>", "  ",
])  # fmt: skip
@pytest.mark.parametrize("opened", [False, True])
def test_thinking_and_answer_are_what_a_whole_answer_has(kind, said, opened):
    using = thinks(kind)
    prompt = ids_of(using, "why is the sky<think>\n" if opened else "why is the sky")
    ids = ids_of(using, said)
    pieces = pieces_of(using, ids, prompt=prompt)
    thinking, answer, _ = split(using, marks(using), prompt, ids)
    assert "".join(piece.text for piece in pieces) == answer
    assert "".join(piece.thinking for piece in pieces) == thinking
