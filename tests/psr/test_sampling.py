"""Sampling by inverse CDF, against counts and a nucleus cut written out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.answers.sampling import Sampling, cut, pick, uniforms
from psr.errors import PsrError


def test_tokens_come_as_often_as_softmax_says():
    logits = torch.tensor([0.3, -1.0, 2.0, -30.0, 0.0])
    n = 10_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    tokens, sound = pick(logits.expand(n, -1), u, Sampling(temperature=0.7))
    shares = torch.bincount(tokens, minlength=5) / n
    weights = [math.exp(value / 0.7) for value in logits.tolist()]
    assert shares.tolist() == pytest.approx([weight / sum(weights) for weight in weights], abs=1 / n)
    assert bool(sound.all())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12), st.floats(0.05, 1.0), st.floats(0, 0.999999))
def test_a_token_outside_the_nucleus_is_never_drawn(values, top_p, u):
    probabilities = np.exp(values) / np.exp(values).sum()
    token, _ = pick(torch.tensor([values]), torch.tensor([u], dtype=torch.float64), Sampling(top_p=top_p))
    clearly = probabilities > probabilities[token.item()] * (1 + 1e-5)  # ties in fp32 are anyone's
    likelier = probabilities[clearly].sum()
    assert likelier < top_p + 1e-5


def test_the_nucleus_is_the_fewest_likely_tokens_that_reach_top_p():
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    assert cut(probabilities, 0.65).tolist() == torch.tensor([[0.0, 0.4, 0.0, 0.3]]).tolist()
    assert cut(probabilities, 0.75).tolist() == torch.tensor([[0.0, 0.4, 0.2, 0.3]]).tolist()
    assert cut(probabilities, 0.01).tolist() == torch.tensor([[0.0, 0.4, 0.0, 0.0]]).tolist()


def test_a_token_without_probability_is_never_drawn_at_either_end():
    logits = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]] * 2)
    tokens, _ = pick(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), Sampling())
    assert tokens.tolist() == [1, 2]


def test_temperature_zero_takes_the_most_likely_token_whatever_the_draw():
    logits = torch.tensor([[1.0, 3.0, 2.0]] * 2)
    tokens, _ = pick(logits, torch.tensor([0.0, 0.99], dtype=torch.float64), Sampling(temperature=0))
    assert tokens.tolist() == [1, 1]


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_reported_row_by_row(temperature, bad):
    logits = torch.tensor([[0.0, 1.0], [0.0, bad]])
    tokens, sound = pick(logits, torch.tensor([0.5, 0.5], dtype=torch.float64), Sampling(temperature=temperature))
    assert sound.tolist() == [True, False]
    assert set(tokens.tolist()) <= {0, 1}


def test_a_rows_draws_depend_on_its_own_seed_alone_and_longer_ones_extend_shorter_ones():
    together, alone = uniforms([5, 2**64 - 1, 7], 6), uniforms([2**64 - 1], 10)
    assert torch.equal(together[1], alone[0, :6])
    assert not torch.equal(together[0], together[2])
    assert all(0 <= u < 1 for u in together.flatten().tolist())


def test_the_key_tells_samplings_apart_and_not_spellings():
    assert Sampling(8, 1, 1).key == Sampling(8, 1.0, 1.0).key
    keys = {Sampling(8).key, Sampling(9).key, Sampling(8, 0.5).key, Sampling(8, 1.0, 0.5).key}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong, says):
    with pytest.raises(PsrError, match=says):
        Sampling(**wrong)
