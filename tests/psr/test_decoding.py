"""Requests that come and go: each gets the tokens that it gets alone, whoever joins, leaves or fails meanwhile."""

import math
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, family
from test_generation import mixed, module_for, prompt_of, without_stops

from psr.answers.batch import start
from psr.answers.decoding import Decoder, Failed, Token, stream
from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.cached import fresh_cache, keeps_columns

every_family = pytest.mark.parametrize("name", sorted(FAMILIES))
SAMPLINGS = [
    Sampling(20),
    Sampling(3),
    Sampling(35, 0.7),
    Sampling(20, 0),
    Sampling(12, 1.3, 0.8),
    Sampling(28, 1, 0.6),
]


def answers_of(decoder, added, every=2):
    """The tokens of all: one request more is added every few steps. added: [(request, sampling)]."""
    ids, waiting, step = {}, list(enumerate(added)), 0
    while waiting or decoder.busy:
        if waiting and step % every == 0:
            number, (request, sampling) = waiting.pop(0)
            decoder.add(number, request, sampling)
        for event in decoder.step():
            ids.setdefault(event.number, []).append(event)
        step += 1
    return ids


def tokens(events):
    return tuple(event.id for event in events)


@every_family
def test_requests_that_come_one_after_the_other_get_what_each_gets_alone(name):
    lm = without_stops(family(name), range(0, 300, 29))
    added = list(zip(mixed(lm), SAMPLINGS, strict=True))
    said = answers_of(Decoder(lm), added)
    for i, (request, sampling) in enumerate(added):
        [alone] = generate(lm, [request], sampling)
        assert tokens(said[i]) == alone.token_ids
        assert said[i][-1].end == ("stop" if alone.finished else "length")
        assert all(event.end == "" for event in said[i][:-1])


@every_family
def test_batches_become_one_where_the_cache_allows_it_and_take_turns_elsewhere(name):
    lm, most = without_stops(family(name)), 0
    decoder = Decoder(lm)
    for i in range(4):
        decoder.add(i, Request(prompt_of(5 + i, i), i), Sampling(20))
        decoder.step()
        most = max(most, len(decoder._batches))
    assert decoder.running == 4
    assert most == (1 if keeps_columns(fresh_cache(lm.model)) else 4)


def test_requests_that_wait_together_are_read_in_one_forward():
    lm, sizes = without_stops(family("llama")), []
    modules = [module_for(lm, seed=i) for i in range(6)]
    handle = lm.base.register_forward_hook(lambda base, args, output: sizes.append(len(output.last_hidden_state)))
    requests = [Request(prompt_of(5 + i, i), i, module, 0.5 + i / 4) for i, module in enumerate(modules)]
    try:
        said = {}
        for event in stream(lm, requests, Sampling(8)):
            said.setdefault(event.number, []).append(event)
    finally:
        handle.remove()
    assert [size for size in sizes if size > 1] == [6] * 8
    assert [tokens(said[i]) for i in range(6)] == [answer.token_ids for answer in generate(lm, requests, Sampling(8))]


def test_a_short_request_does_not_wait_for_the_end_of_a_long_one():
    lm = without_stops(family("llama"))
    decoder = Decoder(lm)
    decoder.add(0, Request(prompt_of(4), 0), Sampling(100))
    for _ in range(10):
        decoder.step()
    decoder.add(1, Request(prompt_of(5), 1), Sampling(5))
    ended = [event.number for _ in range(5) for event in decoder.step() if event.end]
    assert ended == [1]


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_what_is_dropped_gets_no_more_tokens_and_changes_nothing_for_the_others(name):
    lm = without_stops(family(name))
    requests, sampling = mixed(lm), Sampling(20)
    decoder, said = Decoder(lm), {}
    for i, request in enumerate(requests):
        decoder.add(i, request, sampling)
    decoder.add(9, requests[0], sampling)
    decoder.drop(9)  # before it began
    for step in range(20):
        if step == 4:
            decoder.drop(2)
            decoder.drop(2)
            decoder.drop(77)
        for event in decoder.step():
            said.setdefault(event.number, []).append(event)
    assert sorted(said) == list(range(6))
    for i, answer in enumerate(generate(lm, requests, sampling)):
        assert tokens(said[i]) == (answer.token_ids[:4] if i == 2 else answer.token_ids)
    assert not decoder.busy
    assert not decoder._own


def test_a_row_whose_logits_are_not_finite_fails_alone():
    lm = without_stops(family("llama"))
    module = module_for(lm, "Const", size=1e30)
    good = [Request(prompt_of(6), 1), Request(prompt_of(7), 2, module_for(lm), 1.0)]
    events = list(stream(lm, [good[0], Request(prompt_of(6), 1, module, 1e20), good[1]], Sampling(6)))
    [failed] = [event for event in events if isinstance(event, Failed)]
    assert failed.number == 1
    assert "smaller alpha" in str(failed.error)
    for number, request in ((0, good[0]), (2, good[1])):
        own = [event for event in events if event.number == number]
        assert tokens(own) == generate(lm, [request], Sampling(6))[0].token_ids


def test_a_batch_that_cannot_be_computed_fails_and_the_next_request_is_answered():
    lm = without_stops(family("llama"))
    decoder = Decoder(lm)
    decoder.add(0, Request(prompt_of(6), 0), Sampling(6))
    decoder.step()

    def broken(base, args, kwargs):
        raise RuntimeError("secret words of the prompt")

    handle = lm.base.register_forward_pre_hook(broken, with_kwargs=True)
    try:
        [event] = decoder.step()
    finally:
        handle.remove()
    assert isinstance(event, Failed)
    assert "RuntimeError" in str(event.error)
    assert "secret" not in str(event.error)
    decoder.add(1, Request(prompt_of(6), 0), Sampling(6))
    said = [event for _ in range(6) for event in decoder.step()]
    assert tokens(said) == generate(lm, [Request(prompt_of(6), 0)], Sampling(6))[0].token_ids


def test_one_prompt_that_cannot_be_read_fails_alone_among_those_that_came_with_it():
    lm = without_stops(family("llama"))
    requests = [Request(prompt_of(6, i), i) for i in range(4)]
    poison = torch.tensor(requests[2].prompt.ids)

    def broken(base, args, kwargs):
        if any(torch.equal(row[-6:], poison) for row in kwargs["input_ids"] if len(row) >= 6):
            raise RuntimeError("no")

    handle = lm.base.register_forward_pre_hook(broken, with_kwargs=True)
    try:
        events = list(stream(lm, requests, Sampling(5)))
    finally:
        handle.remove()
    assert [event.number for event in events if isinstance(event, Failed)] == [2]
    for i in (0, 1, 3):
        own = [event for event in events if event.number == i]
        assert tokens(own) == generate(lm, [requests[i]], Sampling(5))[0].token_ids


def test_log_probabilities_are_those_of_the_steered_model_at_temperature_one():
    lm = without_stops(family("llama"))
    module = module_for(lm, size=2.0)
    request, decoder = Request(prompt_of(6), 3, module, 1.0), Decoder(lm)
    decoder.add(0, request, Sampling(5, 0.5, 0.9), top=3)
    decoder.add(1, replace(request, seed=4), Sampling(5))
    events = [event for _ in range(5) for event in decoder.step()]
    mine = [event for event in events if event.number == 0]
    assert all(event.logprob is None and event.top == () for event in events if event.number == 1)
    ids = [*request.prompt.ids, *tokens(mine)]
    from psr.steering.hooks import Steer, steered

    with torch.no_grad(), steered(lm.model, [Steer(module, 1.0, request.prompt.response)]):
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
    expected = torch.log_softmax(logits, dim=-1)[len(request.prompt.ids) - 1 :]
    for event, at in zip(mine, expected, strict=False):
        assert math.isclose(event.logprob, at[event.id], abs_tol=1e-4)
        assert [i for i, _ in event.top] == at.topk(3).indices.tolist()
        assert all(math.isclose(value, at[i], abs_tol=1e-4) for i, value in event.top)


def test_only_so_many_run_at_once_and_the_others_follow():
    lm, sizes = without_stops(family("llama")), []
    requests = [Request(prompt_of(5), i) for i in range(7)]
    handle = lm.base.register_forward_hook(lambda base, args, output: sizes.append(len(output.last_hidden_state)))
    try:
        events = list(stream(lm, requests, Sampling(4), batch_size=3))
    finally:
        handle.remove()
    assert max(sizes) == 3
    assert len(events) == 28


def test_a_long_prompt_and_short_ones_are_not_padded_to_one_length():
    lm, shapes = without_stops(family("llama")), []
    requests = [Request(prompt_of(length), i) for i, length in enumerate((4, 110, 5))]
    handle = lm.base.register_forward_hook(
        lambda base, args, output: shapes.append(tuple(output.last_hidden_state.shape[:2]))
    )
    try:
        list(stream(lm, requests, Sampling(4)))
    finally:
        handle.remove()
    assert shapes[0] == (2, 5)
    assert (1, 110) in shapes


def test_columns_of_padding_are_dropped_when_the_row_that_needed_them_has_ended():
    lm = without_stops(family("llama"))
    decoder = Decoder(lm)
    decoder.add(0, Request(prompt_of(60), 0), Sampling(4))
    decoder.add(1, Request(prompt_of(40), 1), Sampling(30))
    said = [event for _ in range(30) for event in decoder.step() if event.number == 1]
    assert tokens(said) == generate(lm, [Request(prompt_of(40), 1)], Sampling(30))[0].token_ids

    batch = start(lm, [0, 1], [Request(prompt_of(60), 0), Request(prompt_of(40), 1)], [Sampling(4)] * 2)
    with torch.inference_mode(), batch.acting():
        batch.step()
        batch.keep(torch.tensor([1]))
        batch.trim()
    assert batch.cache.layers[0].keys.shape[-2] == 40
    assert batch.attention.shape[1] == 41


def test_what_cannot_be_answered_is_refused_before_it_runs():
    lm = family("llama")
    decoder = Decoder(lm)
    with pytest.raises(PsrError, match="context"):
        decoder.add(0, Request(prompt_of(lm.context - 4), 0), Sampling(5))
    with pytest.raises(PsrError, match="not a finite number"):
        decoder.add(0, Request(prompt_of(3), 0, module_for(lm), math.nan), Sampling(5))
    with pytest.raises(PsrError, match="another model"):
        list(stream(lm, [Request(prompt_of(3), 0, replace(module_for(lm), model="0" * 16), 1.0)], Sampling(5)))
    assert not decoder.busy
    assert list(stream(lm, [], Sampling(5))) == []
    assert isinstance(next(stream(lm, [Request(prompt_of(3), 0)], Sampling(5))), Token)
