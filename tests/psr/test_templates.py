"""Chat templates of other kinds: content as parts, options, and files beside the tokenizer."""

import copy
import json

import pytest
from families import FAMILIES, TEMPLATES, tokenizer
from transformers.utils import logging

from psr.errors import PsrError
from psr.lm.chats import encode_chat
from psr.lm.loading import load_model
from psr.lm.models import wrap
from psr.lm.templates import with_options
from psr.types import Message

PARTS = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEXT = TEMPLATES["system"]
THINKING = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<sky>\n\n</sky>\n\n{% endif %}{% endif %}"
)
OPTIONS = (
    "{{ note | default('none') }} {{ count | default(1) + 1 }} {{ '\"brief' if brief is true else '' }}\n" + THINKING
)
CHATS = (
    (Message("user", "why?"),),
    (Message("user", "user"),),
    (Message("user", "a"),),
    (Message("system", "In verse."), Message("user", "why?")),
    (Message("system", "Be brief."), Message("user", "why?")),
    (Message("user", "why?"), Message("assistant", "So."), Message("user", "why?")),
    (Message("user", "how?"), Message("assistant", "So."), Message("user", "why?")),
    (Message("user", "how?"), Message("assistant", "So."), Message("user", "how?")),
)


def using(template, kind="byte"):
    made = copy.deepcopy(tokenizer("system", kind))
    made.chat_template = template
    return made


def rendered(template, chat, **options):
    messages = [{"role": role, "content": content} for role, content in chat]
    made = using(template)
    return made.encode(
        made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options),
        add_special_tokens=False,
    )


def refused(match, call):
    with pytest.raises(PsrError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_template_that_wants_parts_is_given_parts():
    same = PARTS.replace(
        "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
        "{{ m.content }}",
    )
    for chat in CHATS:
        assert list(encode_chat(using(PARTS), chat).ids) == rendered(same, chat)
        assert encode_chat(using(PARTS), chat) == encode_chat(using(same), chat)


@pytest.mark.parametrize("template", [PARTS, TEXT])
def test_other_questions_and_other_instructions_are_other_ids(template):
    assert len({encode_chat(using(template), chat).ids for chat in CHATS}) == len(CHATS)


def test_an_instruction_that_a_template_of_parts_drops_is_put_in_front_of_the_question():
    template = PARTS.replace("in messages", "in messages if m.role != 'system'")
    ids = encode_chat(using(template), CHATS[3]).ids
    assert "In verse.\n\nwhy?" in using(template).decode(ids)


@pytest.mark.parametrize(
    ("template", "chat"),
    [
        (TEXT.replace("in messages", "in messages[-1:]"), CHATS[5]),
        (TEXT.replace("in messages", "in messages[-1:]"), CHATS[6]),
        (TEXT.replace("in messages", "in messages[:1]"), CHATS[7]),
        (TEXT.replace("m.content", "m.text"), CHATS[0]),
        (TEXT.replace("m.content", "m.text"), CHATS[1]),  # 'user' stands in the template itself
        (TEXT.replace("m.content", "m.text"), CHATS[2]),
        (PARTS.replace("part.text", "part.content"), CHATS[0]),
        (PARTS.replace("'text'", "'input_text'"), CHATS[2]),
        (TEXT.replace("m.content", "m.content[:2]"), CHATS[0]),
        (TEXT.replace("m.content", "m.content | upper"), CHATS[0]),
        ("{{ messages[0].role }} is the user", CHATS[1]),
    ],
)
def test_a_template_that_drops_a_question_is_refused(template, chat):
    refused("chat template drops the question", lambda: encode_chat(using(template), chat))


@pytest.mark.parametrize(
    "template", ["{{ messages", "{% for m in messages %}{{ m.content }}", "{{ raise_exception('two\nlines') }}"]
)
def test_a_template_that_cannot_be_rendered_says_why(template):
    refused("chat template refuses this chat", lambda: encode_chat(using(template), CHATS[0]))


@pytest.mark.parametrize("value", [False, True, None])
@pytest.mark.parametrize("chat", CHATS[2:6])
def test_an_option_makes_the_ids_that_apply_chat_template_makes_with_it(value, chat):
    made = with_options(using(THINKING), {"enable_thinking": value})
    assert list(encode_chat(made, chat).ids) == rendered(THINKING, chat, enable_thinking=value)
    assert (encode_chat(made, chat) != encode_chat(using(THINKING), chat)) == (value is False)


@pytest.mark.parametrize(
    "options",
    [
        {"note": "the sky"},
        {"note": "a \"sun\" \\ 'W' {{ a }} {% if %} é ☀ 😀\n"},
        {"count": 3},
        {"count": 2.5},
        {"count": -1},
        {"brief": True},
        {"brief": False},
        {"note": "in", "count": 4, "brief": True, "enable_thinking": False},
        {"note": None},
    ],
    ids=str,
)
def test_options_may_be_text_numbers_and_truth(options):
    made = with_options(using(OPTIONS), options)
    assert list(encode_chat(made, CHATS[0]).ids) == rendered(OPTIONS, CHATS[0], **options)


@pytest.mark.parametrize("name", ["enable_thinkin", "thinking", "user", "brief_", "type", "content", "default_note"])
def test_an_option_that_the_template_does_not_read_is_refused(name):
    template = OPTIONS + "user type {{ messages[0].content }} {{ messages[0]['type'] }}"
    assert repr(name) in refused("takes no notice of this option", lambda: with_options(using(template), {name: 1}))


@pytest.mark.parametrize("value", [object(), {1}, float("nan"), float("inf"), [object()]])
def test_an_option_that_is_no_json_is_refused(value):
    refused("template option makes no sense", lambda: with_options(using(THINKING), {"enable_thinking": value}))


def test_options_for_a_tokenizer_without_template_are_refused():
    refused("has no chat template", lambda: with_options(tokenizer("base"), {"enable_thinking": False}))


def test_options_belong_to_the_wrapped_model_and_change_its_name():
    model, before = FAMILIES["llama"](), using(THINKING)
    plain, off = wrap(model, before), wrap(model, before, template={"enable_thinking": False})
    on = wrap(model, before, template={"enable_thinking": True})
    assert len({plain.fingerprint, off.fingerprint, on.fingerprint}) == 3
    assert off.fingerprint == wrap(model, before, template={"enable_thinking": False}).fingerprint
    assert before.chat_template == THINKING == plain.tokenizer.chat_template
    assert list(encode_chat(off.tokenizer, CHATS[0]).ids) == rendered(THINKING, CHATS[0], enable_thinking=False)
    refused("takes no notice of this option", lambda: wrap(model, before, template={"enable": False}))


def test_each_of_several_named_templates_gets_the_option():
    made = with_options(using({"default": THINKING, "tool_use": TEXT}), {"enable_thinking": False})
    assert set(made.chat_template) == {"default", "tool_use"}
    assert list(encode_chat(made, CHATS[0]).ids) == rendered(THINKING, CHATS[0], enable_thinking=False)


def saved(folder, template, name):
    """A model's folder with its template in one file only."""
    logging.disable_progress_bar()
    FAMILIES["llama"]().save_pretrained(folder)
    using(None).save_pretrained(folder)
    logging.enable_progress_bar()
    if name.endswith(".jinja"):
        (folder / name).write_text(template if isinstance(template, str) else json.dumps(template))
    else:
        content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(content | {"chat_template": template}))
    return folder


FILES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json")


@pytest.mark.parametrize("template", [TEXT, PARTS])
@pytest.mark.parametrize("name", FILES)
def test_a_template_is_found_in_whichever_file_it_lies(name, template, tmp_path):
    lm = load_model(saved(tmp_path, template, name))
    assert lm.fingerprint == wrap(FAMILIES["llama"](), using(template)).fingerprint
    for chat in CHATS:
        assert encode_chat(lm.tokenizer, chat) == encode_chat(using(template), chat)


@pytest.mark.parametrize("name", FILES[1:])
def test_several_named_templates_are_found_too(name, tmp_path):
    named = [{"name": "default", "template": THINKING}, {"name": "tool_use", "template": TEXT}]
    lm = load_model(saved(tmp_path, named, name), template={"enable_thinking": False})
    assert list(encode_chat(lm.tokenizer, CHATS[0]).ids) == rendered(THINKING, CHATS[0], enable_thinking=False)


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b"\xff\xfe{",
        b'{"chat_template": 5}',
        b'{"chat_template": [{"nome": "x"}]}',
        b'{"chat_template": ["x"]}',
        b'{"chat_template": {"default": 3}}',
    ],
)
@pytest.mark.parametrize("name", FILES[1:3])
def test_a_damaged_file_is_refused_with_its_name(name, damage, tmp_path):
    (saved(tmp_path, TEXT, name) / name).write_bytes(damage)
    assert name in refused("a file of the model is damaged", lambda: load_model(tmp_path))


@pytest.mark.parametrize(("name", "damage"), [(FILES[0], b"\xff\xfe\x00"), (FILES[3], b"{"), (FILES[3], b"[]")])
def test_a_damaged_file_that_transformers_reads_is_refused_too(name, damage, tmp_path):
    (saved(tmp_path, TEXT, name) / name).write_bytes(damage)
    refused("tokenizer cannot be read|is damaged", lambda: load_model(tmp_path))


@pytest.mark.parametrize("name", FILES[1:3])
def test_a_file_that_holds_no_template_leaves_a_base_model(name, tmp_path):
    (saved(tmp_path, TEXT, name) / name).write_text('{"image_processor": {"size": 4}}')
    assert load_model(tmp_path).tokenizer.chat_template is None


def test_the_template_that_the_tokenizer_brings_wins(tmp_path):
    saved(tmp_path, TEXT, FILES[1])
    (tmp_path / FILES[0]).write_text(THINKING)
    assert load_model(tmp_path).tokenizer.chat_template == THINKING


def test_an_option_that_the_template_sets_itself_is_refused():
    using = copy.deepcopy(tokenizer("system"))
    using.chat_template = "{% set thinking = true %}" + using.chat_template + "{% if thinking %}<think>{% endif %}"
    with pytest.raises(PsrError, match="takes no notice of this option"):
        wrap(FAMILIES["llama"](), using, template={"thinking": False})
