import pytest
from families import TEMPLATES, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

import psr.lm.alignment
from psr.errors import PsrError
from psr.lm.alignment import align
from psr.lm.chats import Prompt, encode_chat
from psr.types import PromptPair

PAIR = PromptPair("persona/x", "What is the color of the sun?", "Answer in the sky.")
TEXT = st.text(alphabet="aeinstuTW .!?\né", min_size=1, max_size=12).filter(lambda text: text.strip())


@settings(max_examples=150, deadline=None)
@given(
    template=st.sampled_from(sorted(TEMPLATES)), kind=st.sampled_from(["byte", "unsplit", "pieces"]), question=TEXT,
    instruction=TEXT, response=st.lists(st.integers(0, 119), min_size=1, max_size=6), span=st.sampled_from(["R", "QR"]),
)  # fmt: skip
def test_spans_hold_equal_tokens_and_the_answer_as_it_was_sampled(
    template, kind, question, instruction, response, span
):
    using, pair = tokenizer(template, kind), PromptPair("persona/x", question, instruction)
    tokens = align(using, pair, response, span)
    assert tokens.plain_ids[tokens.plain_start :] == tokens.instructed_ids[tokens.instructed_start :]
    assert tokens.plain_ids == encode_chat(using, pair.plain).ids + tuple(response)
    assert tokens.instructed_ids == encode_chat(using, pair.instructed).ids + tuple(response)
    assert tokens.response == len(response)
    assert tokens.span == span
    assert tokens.length >= len(response) + 1
    assert tokens.length == len(response) + 1 or span == "QR"


def test_r_starts_at_the_last_prompt_token_and_qr_at_the_user_turn():
    using = tokenizer("system")
    prompt = encode_chat(using, PAIR.plain)
    r, qr = (align(using, PAIR, (7, 8, 2), span) for span in ("R", "QR"))
    assert r.plain_start == len(prompt.ids) - 1
    assert r.length == 4
    assert qr.plain_start == prompt.question
    assert using.decode(qr.plain_ids[qr.plain_start :]).startswith("<|start|>user\nWhat")


def test_where_the_two_prompts_would_start_qr_apart_the_shorter_span_holds_on_both(monkeypatch):
    monkeypatch.setattr("psr.lm.chats.PROBES", ("Answer in verse.",))  # no probe ends as this instruction does
    using, pair = tokenizer("base", "unsplit"), PromptPair("persona/x", "\nthe", "a\n")  # line ends merge at the border
    plain, instructed = (encode_chat(using, chat) for chat in (pair.plain, pair.instructed))
    assert len(plain.ids) - plain.question > len(instructed.ids) - instructed.question
    tokens = align(using, pair, (5,), "QR")
    assert tokens.plain_ids[tokens.plain_start :] == tokens.instructed_ids[tokens.instructed_start :]
    assert tokens.instructed_start == instructed.question


def test_an_answer_is_never_tokenised_again():
    using = tokenizer("system", "unsplit")
    split = [using.convert_tokens_to_ids(letter) for letter in "the"]  # one token, had it been tokenised
    assert using.encode("the", add_special_tokens=False) != split
    assert align(using, PAIR, split, "R").plain_ids[-3:] == tuple(split)


def test_an_answer_without_tokens_is_refused():
    with pytest.raises(PsrError, match="an answer without tokens"):
        align(tokenizer("system"), PAIR, (), "R")


def test_an_instruction_that_leaves_no_trace_is_refused():
    with pytest.raises(PsrError, match="leaves no trace"):
        align(tokenizer("no_system"), PromptPair("persona/x", "Why?", " \n"), (5,), "QR")


def test_an_unknown_span_is_refused():
    with pytest.raises(PsrError, match="unknown span"):
        align(tokenizer("system"), PAIR, (5,), "Q")  # type: ignore[arg-type]


def test_prompts_that_end_differently_are_refused(monkeypatch):
    ends = iter([Prompt((1, 2, 3), 1), Prompt((1, 9, 2, 4), 2)])
    monkeypatch.setattr(psr.lm.alignment, "encode_chat", lambda *_: next(ends))
    with pytest.raises(PsrError, match="end with different tokens") as caught:
        align(tokenizer("system"), PAIR, (5,), "R")
    assert "\n" not in str(caught.value)
