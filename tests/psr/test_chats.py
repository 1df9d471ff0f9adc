import copy

import pytest
from families import BOS, KINDS, TEMPLATES, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.lm.chats import Prompt, encode_chat
from psr.types import Message, PromptPair

QUESTION, INSTRUCTION = "What is the color of the sun?", "Answer in the sky."
TAKES_SYSTEM = ("system", "strips", "default_system", "dated", "brackets", "last_user", "words")
FOLDS = ("no_system", "ignores_system")
BASE = ("base", "base_bos")
TEXT = st.text(alphabet="aeinstuTW .!?\né", max_size=12)
WORDS = TEXT.filter(lambda text: text.strip())


def _pair(question=QUESTION, instruction=INSTRUCTION):
    return PromptPair("persona/x", question, instruction)


def _both(using, pair):
    return encode_chat(using, pair.plain), encode_chat(using, pair.instructed)


def _tail(prompt):
    return prompt.ids[prompt.question :]


def test_the_templates_are_all_sorted_by_what_they_do_with_a_system_turn():
    assert sorted(TEMPLATES) == sorted((*TAKES_SYSTEM, *FOLDS, *BASE))


@settings(max_examples=150, deadline=None)
@given(template=st.sampled_from(sorted(TEMPLATES)), kind=st.sampled_from(["byte", "pieces", "words"]), question=WORDS,
       instruction=WORDS)  # fmt: skip
def test_both_sides_of_any_pair_share_one_span(template, kind, question, instruction):
    plain, instructed = _both(tokenizer(template, kind), _pair(question, instruction))
    assert _tail(plain) == _tail(instructed)
    assert 0 <= plain.question <= plain.response == len(plain.ids) - 1
    assert 0 <= instructed.question <= instructed.response == len(instructed.ids) - 1


@settings(max_examples=100, deadline=None)
@given(template=st.sampled_from(sorted(TEMPLATES)), question=WORDS, instruction=WORDS)
def test_tokens_that_merge_across_the_border_shorten_the_span_and_never_break_it(template, question, instruction):
    plain, instructed = _both(tokenizer(template, "unsplit"), _pair(question, instruction))
    shared = min(len(_tail(plain)), len(_tail(instructed)))
    assert shared >= 1
    assert plain.ids[-shared:] == instructed.ids[-shared:]


@settings(max_examples=60, deadline=None)
@given(template=st.sampled_from(sorted(TEMPLATES)), question=WORDS, one=WORDS, other=WORDS)
def test_the_span_depends_on_the_question_and_never_on_the_instruction(template, question, one, other):
    using = tokenizer(template)
    spans = {_tail(encode_chat(using, _pair(question, text).instructed)) for text in (one, other)}
    assert spans == {_tail(encode_chat(using, _pair(question).plain))}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("question", [QUESTION, "Why?", "  \n the sun\n"])
def test_the_span_covers_the_user_turn(template, question):
    using = tokenizer(template)
    for prompt in _both(using, _pair(question)):
        assert question.strip() in using.decode(_tail(prompt))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [*TAKES_SYSTEM, *FOLDS])
def test_ids_are_those_of_the_whole_rendered_chat(template, kind):
    using = tokenizer(template, kind)
    pair = _pair()
    folded = [{"role": "user", "content": f"{INSTRUCTION}\n\n{QUESTION}"}]
    roles = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": QUESTION}]
    for chat, messages in ((pair.plain, roles[1:]), (pair.instructed, folded if template in FOLDS else roles)):
        text = using.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert list(encode_chat(using, chat).ids) == using.encode(text, add_special_tokens=False)
        assert text.count(BOS) == encode_chat(using, chat).ids.count(using.bos_token_id) <= 1


def test_a_template_that_writes_the_begin_token_gets_no_second_one():
    using = copy.deepcopy(tokenizer("base_bos"))  # a tokenizer that sets the token by itself
    using.chat_template = TEMPLATES["system"]
    assert using("the").input_ids[0] == using.bos_token_id
    assert encode_chat(using, _pair().plain).ids == encode_chat(tokenizer("system"), _pair().plain).ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", BASE)
def test_a_base_model_gets_a_prefix_and_the_begin_token_it_is_used_to(template, kind):
    using = tokenizer(template, kind)
    plain, instructed = _both(using, _pair())
    begin = (using.bos_token_id,) if template == "base_bos" else ()
    encode = lambda text: tuple(using.encode(text, add_special_tokens=False))  # noqa: E731
    assert plain.ids == begin + encode(f"{QUESTION}\n")
    assert instructed.ids == begin + encode(f"{INSTRUCTION}\n\n{QUESTION}\n")


@pytest.mark.parametrize("kind", ["byte", "pieces", "words"])
@pytest.mark.parametrize("template", ["default_system", "dated"])
def test_a_default_system_turn_puts_the_span_at_its_last_token(template, kind):
    using = tokenizer(template, kind)
    end = using.convert_tokens_to_ids("<|end|>")
    for instruction in (INSTRUCTION, "The sun is in the sky.", "Be the sun"):  # the default's own words among them
        plain, instructed = _both(using, _pair(instruction=instruction))
        assert plain.question == plain.ids.index(end)
        assert instructed.question == instructed.ids.index(end)


def test_without_a_system_turn_the_span_starts_with_the_user_turn():
    using = tokenizer("system")
    plain, instructed = _both(using, _pair())
    assert using.decode(_tail(plain)).startswith("<|start|>user")
    assert using.decode(instructed.ids[: instructed.question]) == f"{BOS}<|start|>system\n{INSTRUCTION}<|end|>\n"


def test_spaces_around_an_instruction_or_in_front_of_a_question_do_not_matter_when_the_instruction_is_folded():
    using = tokenizer("ignores_system")
    assert _both(using, _pair(f" \n{QUESTION}", f"\n{INSTRUCTION} \n")) == _both(using, _pair())


def test_spans_start_where_they_are_defined():
    prompt = Prompt((5, 6, 7, 8), 1)
    assert (prompt.start("R"), prompt.start("QR"), prompt.response) == (3, 1, 3)
    with pytest.raises(PsrError, match="unknown span"):
        prompt.start("Q")


def test_a_longer_chat_keeps_its_turns_and_its_span():
    using = tokenizer("system")
    turns = (Message("user", "Why?"), Message("assistant", "In the sun."), Message("user", QUESTION))
    plain, instructed = encode_chat(using, turns), encode_chat(using, (Message("system", INSTRUCTION), *turns))
    assert _tail(plain) == _tail(instructed)
    assert using.decode(_tail(plain)).startswith("<|start|>user\nWhy?")


def test_encoding_leaves_the_tokenizer_as_it_was():
    using = copy.deepcopy(tokenizer("no_system"))
    before = using.backend_tokenizer.to_str(), using.chat_template, using.padding_side
    encode_chat(using, _pair().instructed)
    assert (using.backend_tokenizer.to_str(), using.chat_template, using.padding_side) == before


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ((), "the chat is empty"),
        ((Message("user", " \n"),), "the chat is empty"),
        ((Message("system", "Be brief."),), "the chat is empty"),
        ((Message("user", "Why?"), Message("assistant", "So.")), "does not end with a user turn"),
        ((Message("user", "Why?"), Message("system", "x"), Message("user", "?")), "in the middle"),
    ],
)
@pytest.mark.parametrize("template", ["system", "no_system", "base"])
def test_a_chat_that_asks_nothing_is_refused(chat, said, template):
    with pytest.raises(PsrError, match=said) as caught:
        encode_chat(tokenizer(template), chat)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("system", [(), (Message("system", "Be brief."),)])
def test_a_chat_that_the_template_refuses_says_what_the_template_said(system):
    chat = (*system, Message("user", "Why?"), Message("user", "How?"))
    with pytest.raises(PsrError, match="roles must alternate") as caught:
        encode_chat(tokenizer("no_system"), chat)
    assert "\n" not in str(caught.value)


def test_a_chat_that_fills_the_context_is_refused_with_both_lengths():
    using, chat = tokenizer("system"), _pair().plain
    length = len(encode_chat(using, chat).ids)
    assert len(encode_chat(using, chat, context=length + 1).ids) == length
    with pytest.raises(PsrError, match=f"fewer than {length} tokens, got {length} tokens"):
        encode_chat(using, chat, context=length)


@pytest.mark.parametrize("template", FOLDS)
def test_a_question_in_the_words_of_a_probe_keeps_its_instruction(template):
    using = tokenizer(template)
    plain, instructed = _both(using, _pair("Answer in verse.", "Speak of the sun"))
    assert plain.ids != instructed.ids
    assert "Speak of the sun" in using.decode(instructed.ids)


def test_a_chat_that_speaks_of_parts_is_no_list_of_parts():
    using = tokenizer("system")
    text = "why is {'type': 'text'} in the sky?"
    assert text in using.decode(encode_chat(using, (Message("user", text),)).ids)
