"""On span QR steering by hand begins where psr.answers.generation begins, for chats rendered by any of these templates."""

import pytest
import torch
from families import family, tokenizer
from hypothesis import example, given
from hypothesis import strategies as st
from written import strong_module

from psr.lm.chats import encode_chat
from psr.lm.models import wrap
from psr.lm.turns import user_turn
from psr.steering.hooks import steer
from psr.types import Message

EXACT = ("system", "strips", "default_system", "dated")
FOLDED = ("no_system", "ignores_system", "base", "base_bos")
KINDS = ("byte", "pieces", "words")
TEXT = st.text(alphabet="aeinstuTW .!?\né", max_size=14).filter(lambda text: text.strip())
UNSPACED = TEXT.map(str.strip)


def chat(question, instruction=None, turns=1):
    system = () if instruction is None else (Message("system", instruction),)
    more = (Message("assistant", "It is the sun."), Message("user", "how?")) * (turns - 1)
    return (*system, Message("user", question), *more)


def found(template, kind, messages):
    """Where the question begins: as it is found in the ids, and as encode_chat has it."""
    using = tokenizer(template, kind)
    prompt = encode_chat(using, messages)
    return user_turn(using).start(list(prompt.ids)), prompt.question


@given(
    template=st.sampled_from(EXACT),
    kind=st.sampled_from(KINDS),
    question=UNSPACED,
    instruction=st.none() | TEXT,
    turns=st.integers(1, 3),
)
def test_it_is_found_where_encode_chat_has_it(template, kind, question, instruction, turns):
    here, there = found(template, kind, chat(question, instruction, turns))
    assert here == there


@example(template="system", kind="unsplit", question="\nthe sun", instruction=None, turns=2)
@example(template="default_system", kind="unsplit", question="\n\nWhy", instruction="In verse", turns=2)
@example(template="brackets", kind="pieces", question="a sun", instruction="In verse", turns=2)
@given(
    template=st.sampled_from(("brackets", "words", *EXACT)),
    kind=st.sampled_from((*KINDS, "unsplit")),
    question=TEXT,
    instruction=st.none() | TEXT,
    turns=st.integers(1, 2),
)
def test_where_tokens_merge_with_the_template_it_is_found_right_or_not_at_all(
    template, kind, question, instruction, turns
):
    here, there = found(template, kind, chat(question, instruction, turns))
    assert here in (there, None)


@given(
    template=st.sampled_from(FOLDED), kind=st.sampled_from((*KINDS, "unsplit")), question=TEXT, turns=st.integers(1, 2)
)
def test_without_an_instruction_it_is_found_in_templates_without_a_system_turn(template, kind, question, turns):
    here, there = found(template, kind, chat(question, None, turns))
    assert here == there or (here is None and kind == "unsplit")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [*EXACT, "brackets"])
@pytest.mark.parametrize("instruction", [None, "Be brief.", "In verse", "You can answer\n\nthe sky?"])
@pytest.mark.parametrize("turns", [1, 2])
def test_ordinary_chats_are_refused_in_plain_text_templates_only(template, kind, instruction, turns):
    for question in ("why is the sky?", "What color is it?", "the sun", "a sun?\n\nor in the sky?"):
        here, there = found(template, kind, chat(question, instruction, turns))
        assert here == there or (here is None and template == "brackets" and (instruction is None or kind == "words"))


@pytest.mark.parametrize("content", ["\n<</SYS>>\n\nthe sky", "in\n<</SYS>>\n\nverse"])
def test_a_mark_that_is_found_twice_is_not_guessed_at(content):
    here, _ = found("brackets", "byte", chat(content, content))
    assert here is None


def test_a_folded_instruction_is_part_of_the_question():
    """Nothing in the ids tells the two apart: all of the first user turn is steered."""
    using = tokenizer("no_system")
    ids = encode_chat(using, chat("why?", "Be brief.")).ids
    start = user_turn(using).start(list(ids))
    assert using.decode(ids[start:]).lstrip().startswith("Be brief.\n\nwhy?")


@pytest.mark.parametrize(
    ("template", "kind"), [(template, kind) for template in EXACT for kind in KINDS] + [("brackets", "byte")]
)
def test_psr_steer_begins_where_psr_generation_does_in_every_row(template, kind):
    using = tokenizer(template, kind)
    model = family("llama").model
    module = strong_module(wrap(model, using).fingerprint, "QR")
    prompts = [
        encode_chat(using, chat("the sun?", *more)) for more in (("Be brief.", 1), ("In verse.", 2), ("You can", 1))
    ]
    width = max(len(prompt.ids) for prompt in prompts)
    skip = [width - len(prompt.ids) for prompt in prompts]
    ids = torch.tensor([[0] * n + list(prompt.ids) for n, prompt in zip(skip, prompts, strict=True)])
    attention = torch.tensor([[0] * n + [1] * (width - n) for n in skip])
    with torch.inference_mode(), steer(model, module, 1.0, using) as live:
        model(input_ids=ids, attention_mask=attention)
    [group] = live.groups
    assert group.first.tolist() == [prompt.question + n for n, prompt in zip(skip, prompts, strict=True)]
    assert group.mask.sum(-1).tolist() == [width - prompt.question - n for n, prompt in zip(skip, prompts, strict=True)]
