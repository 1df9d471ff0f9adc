"""What the probe guards is broken, one thing at a time: the model is refused, and never steered at a wrong place."""

import copy
import functools

import pytest
import torch
from families import FAMILIES, tokenizer
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel
from written import IDS, generated, strong_module

import psr.steering.live
import psr.steering.probe
from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks
from psr.lm.models import wrap
from psr.steering.hooks import Steer, steer, steered
from psr.steering.positions import Given, read_forward
from psr.steering.probe import check_steering

USING = tokenizer("system")
DIFFER, STREAM = "reading with a cache and reading the whole text at once differ", "do not return one residual stream"


def refused(match, call):
    with pytest.raises(PsrError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opened(model):
    return steer(model, strong_module("any"), 1.0).__enter__()


def broken(change, name="llama"):
    """A copy whose forward is given what `change(arguments, tokens in the cache)` makes of its arguments."""
    model = copy.deepcopy(FAMILIES[name]())

    class Broken(type(model)):
        @functools.wraps(type(model).forward)
        def forward(self, **given):
            caches = [value for value in given.values() if isinstance(value, DynamicCache)]
            return super().forward(**change(dict(given), caches[0].get_seq_length() if caches else 0))

    model.__class__ = Broken
    return model


def hides_the_cache(given, past):
    return {key: DynamicCache() if isinstance(value, DynamicCache) else value for key, value in given.items()} | {
        "attention_mask": None
    }


def counts_the_cache_and_does_not_read_it(given, past):
    if past:
        mask = given["attention_mask"].clone()
        mask[:, :past] = 0
        given["attention_mask"] = mask
    return given


def is_one_position_off_after_the_cache(given, past):
    return given | ({"position_ids": given["position_ids"] + 1} if past else {})


def ignores_the_mask(given, past):
    return given | {"attention_mask": None}


def ignores_positions(given, past):
    return given | {"position_ids": None}


def reads_the_last_token_of_a_prompt_twice(given, past):
    return given | ({"input_ids": torch.full_like(given["input_ids"], 7)} if past else {})


@pytest.mark.parametrize(
    ("change", "name", "match"),
    [
        (hides_the_cache, "llama", "does not keep what it reads in the key-value cache"),
        (counts_the_cache_and_does_not_read_it, "llama", DIFFER),
        (is_one_position_off_after_the_cache, "llama", DIFFER),
        (is_one_position_off_after_the_cache, "gpt2", DIFFER),
        (ignores_the_mask, "llama", DIFFER),
        (ignores_the_mask, "opt", DIFFER),
        (ignores_positions, "gpt2", DIFFER),
        (reads_the_last_token_of_a_prompt_twice, "llama", DIFFER),
    ],
)
def test_a_model_that_reads_with_a_cache_otherwise_than_without_is_refused(change, name, match):
    model = broken(change, name)
    assert "Broken" in refused(match, lambda: wrap(model, USING))
    refused(match, lambda: opened(model))


def test_a_model_whose_forward_is_only_passed_through_is_accepted():
    model = broken(lambda given, past: given)
    wrap(model, USING)
    opened(model)


class Silent:
    """A block whose hooks are not called."""

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


class Deaf:
    """A block whose hooks are called and whose caller goes on with what it returned before."""

    def forward(self, *args, **kwargs):
        self.said = super().forward(*args, **kwargs)
        return self.said

    def __call__(self, *args, **kwargs):
        super().__call__(*args, **kwargs)
        return self.said


class DeafLater(Deaf):
    """The same for the tokens after a prompt alone."""

    def __call__(self, *args, **kwargs):
        heard = super(Deaf, self).__call__(*args, **kwargs)
        return self.said if self.said.shape[1] == 1 else heard


class Turned:
    """A block that returns [token, batch, d]."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs).transpose(0, 1)

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs).transpose(0, 1)


class Broad:
    """A block that returns a stream of its own width, cut afterwards."""

    def forward(self, *args, **kwargs):
        said = super().forward(*args, **kwargs)
        return torch.cat([said, said[..., :4]], dim=-1)

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)[..., :32]


def with_block(kind, layers=(1,)):
    model = copy.deepcopy(FAMILIES["llama"]())
    for layer in layers:
        block = decoder_blocks(model)[layer]
        block.__class__ = type(kind.__name__, (kind, type(block)), {})
    return model


@pytest.mark.parametrize(
    ("kind", "what"), [(Silent, "no call of its hook"), (Turned, r"got \(\d, \d, 32\)"), (Broad, r"\[32, 36\]")]
)
def test_a_block_whose_stream_is_not_seen_or_of_another_shape_is_refused(kind, what):
    model = with_block(kind)
    assert STREAM in refused(what, lambda: wrap(model, USING))
    refused(what, lambda: opened(model))


EVERY, HALF = (0, 1, 2), torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "layers", "dtype"),
    [
        (Deaf, EVERY, None),
        (Deaf, EVERY, HALF),
        (DeafLater, EVERY, None),
        (DeafLater, EVERY, HALF),
        (DeafLater, (2,), None),
    ],
)
def test_a_block_whose_hook_is_called_for_nothing_is_not_steered(kind, layers, dtype):
    model = with_block(kind, layers).to(dtype)
    lm = wrap(model, USING)  # unsteered it answers as it should
    assert "steered at every layer" in refused(DIFFER, lambda: opened(lm.model))
    refused(DIFFER, lambda: steered(lm.model, [Steer(strong_module(lm.fingerprint), 1.0, 2)]).__enter__())


def sees_no_cache(module, args, kwargs):
    """What the code before transformers 5.24 saw in 5.24."""
    given = read_forward(module, args, kwargs)
    attention = None if given.attention is None else given.attention[:, given.past :]
    return Given(given.tokens, 0, attention)


def takes_the_first_new_token_for_one_of_the_prompt(module, args, kwargs):
    given = read_forward(module, args, kwargs)
    return Given(given.tokens, 1 if given.past == 3 else given.past, given.attention)


def sees_no_padding(module, args, kwargs):
    given = read_forward(module, args, kwargs)
    return Given(given.tokens, given.past, None)


@pytest.mark.parametrize("reading", [sees_no_cache, takes_the_first_new_token_for_one_of_the_prompt, sees_no_padding])
@pytest.mark.parametrize("name", ["llama", "opt", "gemma2", "mixtral"])
def test_steering_that_misreads_where_it_is_is_refused(reading, name, monkeypatch):
    monkeypatch.setattr(psr.steering.live, "read_forward", reading)
    model = copy.deepcopy(FAMILIES[name]())
    refused(DIFFER, lambda: opened(model))
    monkeypatch.undo()
    opened(model)  # a refusal is not remembered


def test_the_probe_runs_once_a_model_and_before_the_first_steering(monkeypatch):
    model, probed = copy.deepcopy(FAMILIES["llama"]()), []
    monkeypatch.setattr(
        psr.steering.probe,
        "cached",
        lambda model, real=psr.steering.probe.cached: (probed.append(model), real(model))[1],
    )
    module = strong_module("any")
    with steered(model, [Steer(None, 0.0, 2)]):
        assert probed == []  # nothing to do
    for _ in range(2):
        with steer(model, module), steered(model, [Steer(module, 1.0, 2)]):
            assert probed == [model]
    other = copy.deepcopy(model)
    with steered(other, [Steer(module, 1.0, 2)]):
        assert probed == [model, other]


def test_the_probe_leaves_no_trace():
    model = copy.deepcopy(FAMILIES["llama"]())
    before, random = generated(model, IDS, 4)[0], torch.get_rng_state()
    hooks = [dict(block._forward_hooks) for block in decoder_blocks(model)]  # transformers may keep some of its own
    check_steering(model)
    assert torch.equal(torch.get_rng_state(), random)
    generated(model, IDS, 4)[0].check(before)
    assert [dict(block._forward_hooks) for block in decoder_blocks(model)] == hooks


def test_a_model_in_training_is_told_to_stop():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=3, n_head=2, resid_pdrop=0.5)).train()
    refused(r"Call model.eval\(\) first", lambda: opened(model))
    opened(model.eval())


def test_what_the_model_raises_is_told_in_one_line():
    def fails(given, past):
        raise ValueError("two\nlines")

    assert "ValueError: two lines" in refused(
        "cannot be read with a key-value cache", lambda: wrap(broken(fails), USING)
    )
