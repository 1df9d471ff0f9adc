"""Compiled models are steered as any other, and say afterwards what they said before."""

import copy
import logging

import pytest
import torch
from families import FAMILIES, family
from written import IDS, greedy, logits, strong_module

from psr.lm.blocks import decoder_blocks
from psr.lm.models import wrap
from psr.lm.recording import recorded
from psr.steering.hooks import Steer, steer, steered

ids = torch.tensor([IDS])


@pytest.fixture(autouse=True)
def compile_afresh(monkeypatch):
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # a thousand records a graph
    yield
    torch._dynamo.reset()


@pytest.fixture
def model():
    return copy.deepcopy(FAMILIES["gpt2"]())


@pytest.fixture
def module():
    return strong_module(family("gpt2").fingerprint)


def whole(model):
    model.compile(backend="eager")
    return model


def forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def wrapper(model):
    return torch.compile(model, backend="eager")


def inner(model):
    model.transformer.compile(backend="eager")
    return model


def blocks(model):
    for block in decoder_blocks(model):
        block.compile(backend="eager")
    return model


def ways(*fast):
    """Each way to compile; those not named here in the slow tests."""
    every = (whole, forward, wrapper, inner, blocks)
    marks = {way: () if way in fast else (pytest.mark.slow,) for way in every}
    return pytest.mark.parametrize("compiled", [pytest.param(way, marks=marks[way], id=way.__name__) for way in every])


def last(model):
    with torch.inference_mode():
        return model(input_ids=ids).logits[0, -1]


@ways(whole, wrapper)
def test_a_model_compiled_before_is_steered_as_by_hand_and_not_afterwards(model, module, compiled):
    plain, expected = last(model), logits(model, IDS, module, [7])[-1]
    made = compiled(model)
    torch.testing.assert_close(last(made), plain)
    for _ in range(2):
        with steer(made, module):
            torch.testing.assert_close(last(made), expected, rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(last(made), plain)


@ways(blocks)
def test_a_model_compiled_while_it_is_steered_is_steered_as_by_hand_and_not_afterwards(model, module, compiled):
    plain, expected = last(model), logits(model, IDS, module, [7])[-1]
    with steer(model, module):
        made = compiled(model)
        torch.testing.assert_close(last(made), expected, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(last(made), plain)
    torch.testing.assert_close(last(model), plain)


@ways(inner)
def test_a_model_first_run_compiled_after_it_was_steered_is_itself(model, module, compiled):
    plain = last(model)
    with steer(model, module):
        last(model)
    torch.testing.assert_close(last(compiled(model)), plain)


@ways(forward)
def test_a_compiled_model_answers_with_a_cache_as_by_hand(model, module, compiled):
    expected = greedy(model, IDS, 4, module)
    made = compiled(model)
    last(made)
    with torch.inference_mode(), steer(made, module):
        told = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        assert made.generate(ids, **told)[0, len(IDS) :].tolist() == expected.tokens


@ways()
def test_a_compiled_model_is_wrapped_as_what_it_was(model, module, compiled):
    expected = logits(model, IDS, module, range(3, 8))[-1]
    made = compiled(model)
    last(made)
    lm = wrap(made, family("gpt2").tokenizer)
    assert lm.model is model
    assert lm.fingerprint == family("gpt2").fingerprint
    with steered(lm.model, [Steer(module, 1.0, 3)]):
        torch.testing.assert_close(last(made), expected, rtol=1e-4, atol=2e-4)


def test_compiled_code_is_used_again_once_every_context_is_closed(model, module):
    calls = []

    def backend(graph, example):
        return lambda *args: (calls.append(1), graph(*args))[1]

    made = torch.compile(model, backend=backend)
    last(made)
    once = len(calls)
    assert once > 0
    with steer(model, module), steer(model, module, 0.5):
        last(made)
        with pytest.raises(RuntimeError), steer(model, module):
            raise RuntimeError
        last(made)
        assert len(calls) == once
    last(made)
    assert len(calls) == 2 * once


@ways(whole)
def test_what_is_recorded_of_a_compiled_model_is_what_it_returns(model, compiled):
    with torch.inference_mode(), recorded(model, [1]) as expected:
        model(input_ids=ids)
    made = compiled(model)
    last(made)
    with torch.inference_mode(), recorded(model, [1]) as got:
        made(input_ids=ids)
    torch.testing.assert_close(got[1], expected[1])
