"""Targets kept in full, in 8 bits or not at all: what is chosen, what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.loop import fit, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE
from psr.fitting.stores import EightBit, Recomputed, in_eight_bits, joined, kind_within, targets_within
from psr.lm.recording import Targets
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
