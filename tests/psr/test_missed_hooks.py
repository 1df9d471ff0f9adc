"""A model that runs past its steered layers is noticed when the steering context is left."""

import copy

import pytest
import torch
from families import FAMILIES
from written import IDS, logits, strong_module

from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks
from psr.steering.hooks import Steer, steer, steered

ids = torch.tensor([IDS])


@pytest.fixture
def model():
    return copy.deepcopy(FAMILIES["llama"]())


@pytest.fixture
def module():
    return strong_module("any")


def silence(model, layer=1):
    """Calls of this block go past its hooks, as those of code that was compiled without them."""
    block = decoder_blocks(model)[layer]
    silent = {"__call__": lambda self, *args, **kwargs: self.forward(*args, **kwargs)}
    block.__class__ = type("Silent", (type(block),), silent)


def replace(model, layer=1):
    decoder_blocks(model)[layer] = copy.deepcopy(decoder_blocks(model)[layer])
    decoder_blocks(model)[layer]._forward_hooks.clear()


def cut_short(model):
    model.config.num_hidden_layers = 1


def run(model, change, runs=1):
    change(model)
    for _ in range(runs):
        with torch.inference_mode():
            model(input_ids=ids)


@pytest.mark.parametrize("change", [silence, replace, cut_short])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("opened", [steer, lambda model, module: steered(model, [Steer(module, 1.0, 2)])])
def test_a_hook_that_is_not_called_is_an_error_when_the_context_is_left(model, module, change, runs, opened):
    with pytest.raises(PsrError, match="ran past its steered layers") as caught, opened(model, module):
        run(model, change, runs)
    assert f"layer 1), expected {runs} calls of its hook, got 0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hook_that_is_called_in_some_forwards_only_is_an_error(model, module):
    with pytest.raises(PsrError, match=r"layer 2\), expected 3 calls of its hook, got 2"), steer(model, module):
        run(model, lambda _: None, 2) or run(model, lambda model: silence(model, 2))


def test_only_layers_that_are_steered_count(model):
    with steer(model, strong_module("any", layers=(0, 2))):
        run(model, silence)


def test_a_model_that_was_not_run_is_no_error(model, module):
    with steer(model, module):
        silence(model)


def test_what_went_wrong_before_is_told_first(model, module):
    def fails():
        run(model, silence)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), steer(model, module):
        fails()


def test_a_forward_that_failed_does_not_count(model, module):
    expected = logits(model, IDS, module, [7])[-1]
    with torch.inference_mode(), steer(model, module):
        with pytest.raises(IndexError):
            model(input_ids=torch.tensor([[10**6]]))
        torch.testing.assert_close(model(input_ids=ids).logits[0, -1], expected, rtol=1e-4, atol=2e-4)
