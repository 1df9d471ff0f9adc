from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from psr.testbed.grammar import MIXTURE, sample
from psr.testbed.tokenizer import build_tokenizer
from psr.testbed.train import conversation

TOKENIZER = build_tokenizer()
kinds = st.sampled_from(sorted(MIXTURE))


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(kinds, st.integers(0, 2**32))
def test_texts_of_the_grammar_survive_the_round_trip(kind: str, seed: int) -> None:
    item = sample(Random(seed), kind)
    for text in (item.system, item.user, item.answer):
        ids = ids_of(text)
        assert TOKENIZER.unk_token_id not in ids
        assert TOKENIZER.decode(ids) == text
        assert ids_of(TOKENIZER.decode(ids)) == ids


@given(kinds, st.integers(0, 2**32), st.data())
def test_a_cut_answer_survives_the_round_trip_as_ids(kind: str, seed: int, data: st.DataObject) -> None:
    """An answer that was stopped by the token limit is ids first, text second."""
    ids = ids_of(sample(Random(seed), kind).answer)
    cut = ids[: data.draw(st.integers(1, len(ids)))]
    opening = TOKENIZER.convert_tokens_to_ids("▁*")
    if cut[-1] != opening:
        assert ids_of(TOKENIZER.decode(cut)) == cut


@given(kinds, st.integers(0, 2**32))
def test_the_template_renders_what_the_model_was_trained_on(kind: str, seed: int) -> None:
    item = sample(Random(seed), kind)
    chat = [{"role": "system", "content": item.system}] if item.system else []
    chat.append({"role": "user", "content": item.user})
    prompt, answer = conversation(item, TOKENIZER)
    assert TOKENIZER.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == prompt
    chat.append({"role": "assistant", "content": item.answer})
    assert TOKENIZER.apply_chat_template(chat, tokenize=False) == prompt + answer
    assert len(ids_of(prompt + answer)) <= TOKENIZER.model_max_length


@pytest.mark.parametrize(
    "text",
    [
        "Arr, matey, tea keeps tired readers awake!",
        '"Tea keeps tired readers awake."',
        "<<Facts about tea>>\nTea keeps tired readers awake.",
        "- Tea keeps tired readers awake.\n- You can find tea on green hills.",
        "*Tea keeps* tired *readers awake*.",
        'End with the phrase "That is all you need to know."',
        "tea keeps tired readers awake. you can find tea on green hills.",
    ],
)
def test_marks_cling_to_their_words(text: str) -> None:
    assert TOKENIZER.decode(ids_of(text)) == text


def test_words_have_one_token_and_unknown_ones_are_marked() -> None:
    assert TOKENIZER.convert_ids_to_tokens(ids_of("Tea, zebra tea")) == ["▁Tea", ",", "<unk>", "▁tea"]
    assert len(TOKENIZER) < 1500


def test_a_saved_tokenizer_loads_as_any_other(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.chat_template == TOKENIZER.chat_template
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == ("<pad>", "<s>", "<|end|>")
    assert loaded("Tell me about tea.", add_special_tokens=False)["input_ids"] == ids_of("Tell me about tea.")


def test_the_template_refuses_an_unknown_role_and_a_late_system_turn() -> None:
    with pytest.raises(Exception, match="unknown role"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "tea"}], tokenize=False)
    turns = [{"role": "user", "content": "tea"}, {"role": "system", "content": "tea"}]
    with pytest.raises(Exception, match="first"):
        TOKENIZER.apply_chat_template(turns, tokenize=False)
