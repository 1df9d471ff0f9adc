"""Where the tokens of a forward stand is read from what the model is given, or the forward is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import CONFIG_MAPPING, DynamicCache, EncoderDecoderCache, StaticCache
from transformers.modeling_outputs import BaseModelOutput

from psr.errors import PsrError
from psr.steering.positions import Given, read_forward

IDS = torch.tensor([[5, 40, 61], [9, 21, 35]])
CONFIG = CONFIG_MAPPING["gemma3_text"](
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=4,
    intermediate_size=8,
    vocab_size=20,
    sliding_window=4,
    layer_types=["sliding_attention", "full_attention"],
)


class Model(nn.Module):
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past=None, inputs_embeds=None, **more):
        raise AssertionError("never run")


class OnlyIds(nn.Module):
    def forward(self, input_ids, *more, flag=None, **named):
        raise AssertionError("never run")


def filled(length, cache=None):
    cache = DynamicCache() if cache is None else cache
    for layer in range(2):
        cache.update(torch.zeros(2, 1, length, 4), torch.zeros(2, 1, length, 4), layer)
    return cache


def read(*args, model=None, **kwargs):
    return read_forward(model or Model(), args, kwargs)


def refused(match, *args, **kwargs):
    with pytest.raises(PsrError, match=match) as caught:
        read(*args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["past_key_values", "cache", "cache_params", "layer_past", "a_name_of_tomorrow"])
def test_a_cache_is_found_under_any_name(name):
    seen = read(input_ids=IDS, **{name: filled(5)})
    assert (seen.past, seen.length, seen.batch) == (5, 3, 2)
    assert seen.columns().tolist() == [5, 6, 7]


def test_a_cache_is_found_where_it_stands_among_the_arguments_without_a_name():
    assert read(IDS, None, None, filled(5)).past == 5


@pytest.mark.parametrize("before", [(), (None, None), (None,) * 5])
def test_a_cache_is_found_among_arguments_that_the_forward_does_not_name(before):
    assert read(IDS, *before, filled(5), model=OnlyIds()).past == 5


def test_a_cache_that_slides_counts_the_tokens_it_has_dropped():
    assert read(IDS, cache=filled(5, filled(6, DynamicCache(config=CONFIG)))).past == 11


def test_caches_of_other_kinds_that_know_their_length_are_read():
    static = StaticCache(config=CONFIG_MAPPING["llama"](num_hidden_layers=2), max_cache_len=16)
    assert read(IDS, past_key_values=EncoderDecoderCache(filled(5), DynamicCache())).past == 5
    assert read(IDS, past_key_values=filled(5, static)).past == 5
    assert read(IDS, past_key_values=DynamicCache()).past == 0


def test_two_caches_of_one_length_are_one():
    assert read(IDS, past_key_values=filled(5), cache=filled(5)).past == 5


@pytest.mark.parametrize(("one", "other"), [(5, 4), (0, 3)])
def test_two_caches_of_different_lengths_are_refused(one, other):
    refused("two caches of different lengths", IDS, past=filled(one) if one else DynamicCache(), cache=filled(other))


class Unknown:
    """A cache of somebody's own."""


LEGACY = tuple((torch.zeros(2, 1, 5, 4), torch.zeros(2, 1, 5, 4)) for _ in range(2))


@pytest.mark.parametrize(
    "cache",
    [
        LEGACY,
        [list(layer) for layer in LEGACY],
        Unknown(),
        {"layer": LEGACY},
        {"key": torch.zeros(2)},
        (filled(5),),
        [Unknown()],
        BaseModelOutput(last_hidden_state=torch.zeros(2, 3, 8)),
        np.zeros(3),
    ],
)
@pytest.mark.parametrize("name", ["past_key_values", "state"])
def test_what_may_hide_a_cache_is_refused(name, cache):
    refused(f"cannot tell how many tokens came before these .argument {name}", input_ids=IDS, **{name: cache})
    refused("cannot tell how many tokens came before these", IDS, None, None, cache)


def test_a_cache_without_attention_layers_is_refused():
    cache = DynamicCache(config=CONFIG_MAPPING["mamba"](num_hidden_layers=2, hidden_size=8))
    refused("cannot tell how many tokens came before these", IDS, cache_params=cache)


@pytest.mark.parametrize(
    "more",
    [
        {"use_cache": True, "logits_to_keep": 1, "scale": 0.5, "kind": "eager", "none": None, "dtype": torch.float32},
        {"position_embeddings": (torch.zeros(3), torch.zeros(3))},
        {"mm_encoder_outputs": {}},
        {"mm_encoder_outputs": {"image": BaseModelOutput(last_hidden_state=torch.zeros(1, 2, 8))}},
    ],
)
def test_other_arguments_are_left_alone(more):
    assert read(IDS, **more).past == 0


@pytest.mark.parametrize(("past", "columns"), [(None, 2), (None, 4), (None, 8), (0, 4), (5, 3), (5, 7), (5, 9)])
def test_a_mask_that_covers_other_columns_than_the_tokens_is_refused(past, columns):
    cache = {} if past is None else {"cache": filled(past) if past else DynamicCache()}
    refused("does not cover the tokens", IDS, torch.ones(2, columns), **cache)
    assert read(IDS, torch.ones(2, (past or 0) + 3), **cache).past == (past or 0)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 1, 3, 3),
        torch.ones(2, 3, 3),
        torch.ones(3),
        {"full_attention": torch.ones(2, 3)},
        [[1, 1, 1]],
        Unknown(),
    ],
)
def test_a_mask_that_is_not_one_number_a_column_is_refused(mask):
    refused("needs a plain attention mask", IDS, attention_mask=mask)


@pytest.mark.parametrize("name", ["position_ids", "cache_position"])
@pytest.mark.parametrize(
    "positions", [torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([4, 5, 6])]
)
def test_positions_that_say_that_tokens_came_before_are_refused_without_a_cache(name, positions):
    refused("come later in their sequence than the cache says", IDS, **{name: positions})
    assert read(IDS, cache=filled(5), **{name: positions}).past == 5


@pytest.mark.parametrize(
    "positions", [torch.arange(3), torch.arange(3).expand(2, 3), torch.arange(3).expand(3, 2, 3), None]
)
def test_positions_that_begin_at_nought_are_accepted(positions):
    assert read(IDS, None, positions).past == 0


@pytest.mark.parametrize("positions", [[[0, 0, 1], [0, 1, 2]], [[1, 0, 1], [0, 1, 2]], [[1, 1, 0], [0, 1, 2]]])
def test_positions_of_padding_may_be_any(positions):
    masks = torch.tensor([[0, 1, 1], [1, 1, 1]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    assert all(read(IDS, mask, torch.tensor(positions)).past == 0 for mask in masks)


@pytest.mark.parametrize("positions", [[[0, 1, 0]], [[0, 0, 1], [0, 1, 0]], [[2, 0, 1], [0, 1, 2]]])
def test_several_texts_in_one_row_are_refused(positions):
    refused("several texts in one row", IDS, None, torch.tensor(positions))


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"input_ids": None},
        {"input_ids": IDS[0]},
        {"input_ids": IDS[:, :0]},
        {"input_ids": IDS.tolist()},
        {"tokens": IDS},
        {"inputs_embeds": torch.zeros(2, 0, 8)},
        {"inputs_embeds": torch.zeros(2, 3, 8, 1)},
        {"input_ids": "the sun"},
    ],
)
def test_a_forward_without_tokens_is_refused(told):
    refused("found no tokens", **told)


def test_embeddings_count_as_tokens_and_have_no_ids():
    seen = read(inputs_embeds=torch.zeros(2, 3, 8), attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]))
    assert (seen.batch, seen.length, seen.ids) == (2, 3, None)
    assert (seen.padding().tolist(), seen.last().tolist()) == ([1, 0], [2, 2])
    assert read(input_ids=IDS).ids is IDS


MASKS = st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6).filter(any), min_size=1, max_size=4)


@given(rows=MASKS, past=st.integers(0, 5), dtype=st.sampled_from([torch.long, torch.bool, torch.float32]))
def test_padding_and_the_last_token_are_those_of_any_mask(rows, past, dtype):
    """Left, right, both, and columns masked in between, as where turns of a batch differ in length."""
    seen = Given(torch.zeros(len(rows), 6 - past, dtype=torch.long), past, torch.tensor(rows).to(dtype))
    assert seen.padding().tolist() == [row.index(1) for row in rows]
    assert seen.last().tolist() == [max(i for i, real in enumerate(row) if real) for row in rows]
    assert seen.columns().tolist() == list(range(past, 6))


def test_without_a_mask_every_token_is_real():
    seen = read(IDS, cache=filled(5))
    assert (seen.padding().tolist(), seen.last().tolist()) == ([0, 0], [7, 7])
