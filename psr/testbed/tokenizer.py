"""The testbed's tokenizer: one token a word, built with `tokenizers`, and saved as an ordinary tokenizer.json.

A word's token includes the space before it (▁tea), as in most language models; marks include none. A word at the start
of a line or behind an opening mark has the same token, and decoding removes that space again: on texts of the
grammar decode(encode(text)) == text and encode(decode(ids)) == ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from psr.testbed.concepts import CONCEPTS, Concept
from psr.testbed.formats import FORMATS
from psr.testbed.layouts import TITLES
from psr.testbed.neutral import NEUTRAL, NEUTRAL_HELD_OUT
from psr.testbed.questions import FORMS
from psr.testbed.topics import TOPICS
from psr.testbed.traits import TRAITS, Trait

PAD, UNK, BOS, END = "<pad>", "<unk>", "<s>", "<|end|>"
TURNS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL = (PAD, UNK, BOS, END, *TURNS.values())
MARKS = (".", ",", "!", "?", '"', '▁"', "*", "▁*", "-", "<<", ">>", "\n")
CONTEXT = 256

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message['role'] ~ ', known are system, user, assistant') }}"
    "{% elif message['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('a system turn has to come first') }}{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def texts() -> Iterator[str]:
    """Every piece of text that the grammar combines."""
    for topic in TOPICS:
        yield from topic.sentences
        yield from (form.format(topic.name) for form in (*FORMS, *TITLES))
    attributes: tuple[Trait | Concept, ...] = (*TRAITS.values(), *CONCEPTS)
    for attribute in attributes:
        yield from (" ".join((d.prefix, d.middle, d.suffix)) for d in attribute.decorations)
        yield from (*attribute.instructions, *attribute.held_out)
    for layout in FORMATS.values():
        yield from (*layout.instructions, *layout.held_out)
    yield from (*NEUTRAL, *NEUTRAL_HELD_OUT, "Section 1 Section 2")


def vocabulary() -> dict[str, int]:
    """Token -> id: special tokens, marks, then the words of `texts` in alphabetical order, as written and lowercased."""
    words = {word for text in texts() for word in re.findall(r"\w+", text)}
    for topic in TOPICS:
        words |= {word for sentence in topic.sentences for word in re.findall(r"\w+", sentence.lower())}
    return {token: i for i, token in enumerate((*SPECIAL, *MARKS, *(f"▁{word}" for word in sorted(words))))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template."""
    core = Tokenizer(WordLevel(vocabulary(), unk_token=UNK))
    core.normalizer = normalizers.Sequence([
        normalizers.Replace(" ", "▁"),
        normalizers.Replace(Regex(r"(?<![\w▁])(?=\w)"), "▁"),
    ])  # fmt: skip
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r'▁?\w+|▁?["*]|<<|>>|[.,!?\n-]|▁|[^\w▁]'), behavior="isolated")
    core.decoder = decoders.Sequence([
        decoders.Fuse(),
        decoders.Replace("▁", " "),
        decoders.Replace(Regex(r'(?<=^|\n|<<|^"|\n"| "|^\*|\n\*| \*) '), ""),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=list(TURNS.values()),
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
