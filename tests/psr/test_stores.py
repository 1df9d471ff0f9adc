"""Targets kept in full, in 8 bits or not at all: what is chosen, what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.learning import learn
from psr.fitting.loop import fit, pose
from psr.fitting.methods import parse_method
from psr.fitting.methods.named import plug_of
from psr.fitting.presets import FAST_MSE
from psr.fitting.stores import EightBit, Recomputed, in_eight_bits, joined, kind_within, targets_within
from psr.lm.recording import Targets, record
from tests.psr.drawn import drawn
from tests.psr.families import LAYERS, family

A_PSR, ALL = parse_method("a-psr-mse-qr"), tuple(range(LAYERS))
SETTINGS = replace(FAST_MSE, epochs=3, batch_size=4)


def stores(lm, data):
    full = sum(one.tokens.length for one in data) * LAYERS * lm.d_model * 4
    return [targets_within(lm, data, ALL, "QR", budget) for budget in (full, full - 1, 0)]


def test_the_budget_decides():
    kinds = [
        kind_within(100, 6, 128, budget)
        for budget in (100 * 6 * 128 * 4, 100 * 6 * 128 * 4 - 1, 100 * 6 * 132, 100 * 6 * 132 - 1, 0)
    ]
    assert kinds == ["full", "8 bits", "8 bits", "recomputed", "recomputed"]
    with pytest.raises(PsrError, match="a budget makes no sense"):
        kind_within(1, 1, 1, -1)
    assert [type(store) for store in stores(family("llama"), drawn(3, 1, "QR"))] == [Targets, EightBit, Recomputed]


@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_8_bits_are_off_by_half_a_step_at_most(seed, size):
    values = size * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(seed))
    store = in_eight_bits(Targets(values, (0, 2, 5), (0, 1), "m", "R"))
    back = store.at(torch.tensor([0, 1]), torch.arange(5).unsqueeze(0))[:, 0]
    bound = values.abs().amax(dim=-1, keepdim=True) / 127 / 2
    assert bool(((back - values).abs() <= bound * (1 + 1e-5)).all())
    assert store.codes.dtype == torch.int8


def test_the_end_of_each_sequence_in_8_bits_is_what_was_stored_of_these_tokens():
    codes = torch.tensor([[[1, -2], [3, 4], [5, 6], [-127, 8], [9, 10]]], dtype=torch.int8)
    scale = torch.tensor([[0.5, 2.0, 0.25, 1.0, 4.0]])
    store = EightBit(codes, scale, (0, 2, 5), (3,), "m", "QR")
    ends = store.last([1, 2], "R")
    assert (ends.offsets, ends.layers, ends.model, ends.span) == ((0, 1, 3), (3,), "m", "R")
    expected = torch.tensor([[[2 * 3.0, 2 * 4], [-127, 8], [4 * 9, 4 * 10]]])
    assert torch.equal(ends.in_full().values, expected)
    assert torch.equal(store.in_full().last([1, 2], "R").values, expected)
    for wrong in ([3, 1], [1], [1, 1, 1]):
        with pytest.raises(PsrError, match="shorter than the span"):
            store.last(wrong, "R")


@pytest.mark.parametrize(
    ("name", "layers", "read"),
    [
        ("s-psr-mse-qr", (1,), (1, 2)),
        ("a-psr-mse-qr", ALL, ALL),
        ("s-const-dim-r", (1,), (1,)),
        ("a-const-dim-r", ALL, ALL),
    ],
)
def test_the_layers_that_a_method_reads_give_the_module_of_all_layers(name, layers, read):
    lm, method = family("llama"), plug_of(parse_method(name))
    data = drawn(6, 3, method.method.span)
    assert tuple(method.learning.layers_read(layers, LAYERS)) == read
    settings = replace(FAST_MSE, epochs=2, batch_size=4) if method.trained else None
    run = [one.tokens.instructed_ids for one in data], [one.tokens.instructed_start for one in data]
    plain = [one.tokens.plain_ids for one in data], [one.tokens.plain_start for one in data]
    sides = [[record(lm, *side, kept, span=method.method.span) for side in (run, plain)] for kept in (ALL, read)]
    whole, less = (
        learn(lm, data, method, layers, settings, targets=targets, plain=answers, module_id="m").module.tensors
        for targets, answers in sides
    )
    assert all(torch.equal(less[key], value) for key, value in whole.items())
    if len(read) > len(layers):
        short = record(lm, *run, layers, span=method.method.span)
        with pytest.raises(PsrError, match="lack layers"):
            learn(lm, data, method, layers, settings, targets=short, module_id="m")


def test_a_token_of_zeros_stays_zero():
    store = in_eight_bits(Targets(torch.zeros(1, 1, 4), (0, 1), (0,), "m", "R"))
    assert torch.equal(
        store.at(torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)), torch.zeros(1, 1, 1, 4)
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt"])
def test_recomputed_targets_are_the_recorded_ones(name):
    lm, data = family(name), drawn(7, 3, "QR")
    full, _, live = (pose(lm, data, A_PSR, ALL, SETTINGS, store) for store in stores(lm, data))
    batch = full.data.batch(torch.tensor([5, 0, 3]), lm.device)
    mine, theirs = live.wanted(batch), full.wanted(batch)
    torch.testing.assert_close(mine[:, batch.span], theirs[:, batch.span], rtol=1e-4, atol=1e-5)


def test_the_module_hardly_depends_on_the_store():
    lm, data = family("llama"), drawn(9, 4, "QR")
    full, eight, live = (
        fit(lm, data, A_PSR, ALL, SETTINGS, targets=store, module_id="m") for store in stores(lm, data)
    )
    for name, value in full.module.tensors.items():
        torch.testing.assert_close(live.module.tensors[name], value, rtol=2e-4, atol=2e-5)
        assert torch.cosine_similarity(eight.module.tensors[name].flatten(), value.flatten(), dim=0) > 0.999
    assert eight.curve[-1].objective == pytest.approx(full.curve[-1].objective, rel=1e-2)


def test_joined_stores_follow_one_another():
    lm, one, two = family("llama"), drawn(3, 1, "QR"), drawn(4, 2, "QR")
    for a, b, both in zip(stores(lm, one), stores(lm, two), stores(lm, [*one, *two]), strict=True):
        together = joined([a, b])
        assert (type(together), together.offsets, len(together)) == (type(both), both.offsets, 7)
        problem = [pose(lm, [*one, *two], A_PSR, ALL, SETTINGS, store) for store in (together, both)]
        batch = problem[0].data.batch(torch.tensor([1, 5]), lm.device)
        found = [each.wanted(batch)[:, batch.span] for each in problem]
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_stores_that_differ_are_not_joined():
    lm, data = family("llama"), drawn(3, 1, "QR")
    full, eight, _ = stores(lm, data)
    with pytest.raises(PsrError, match="cannot be joined"):
        joined([full, eight])
