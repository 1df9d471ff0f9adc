"""The engine's own promises: what is cancelled stays silent, what cannot be answered fails, the end is an end."""

from __future__ import annotations

import threading

import pytest
from served import random_module, until

from psr.answers.decoding import Decoder, Failed
from psr.answers.request import Request
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import encode_chat
from psr.lm.exclusive import alone
from psr.serve.engine import Engine
from psr.types import Message


@pytest.fixture
def engine(toy):
    one = Engine(toy, most=4, queue=4)
    yield one
    one.close()


def request(lm, seed=0, module=None):
    prompt = encode_chat(lm.tokenizer, (Message("user", "Tell me about trains."),))
    return Request(prompt, seed, module, 1.0)


def test_a_request_that_is_cancelled_before_it_began_is_never_begun(engine, toy):
    events: list = []
    with alone(toy.blocks):
        running = engine.submit(request(toy), Sampling(3), events.append)
        until(lambda: engine.running == 1)
        cancelled = engine.submit(request(toy, 1), Sampling(3), events.append)
        engine.cancel(cancelled)
        engine.cancel(cancelled)
        engine.cancel(99)
    until(lambda: engine.open == 0)
    assert {event.number for event in events} == {running}


def test_what_cannot_be_answered_is_refused_at_once(engine, toy):
    with pytest.raises(PsrError, match="context"):
        engine.submit(request(toy), Sampling(1000), print)
    assert engine.open == 0


def test_an_error_of_the_engines_own_fails_what_runs_and_not_what_comes(engine, toy, monkeypatch, caplog):
    events: list = []
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "step", lambda self: 1 / 0)
        engine.submit(request(toy), Sampling(3), events.append)
        until(lambda: engine.open == 0)
    assert [type(event) for event in events] == [Failed]
    [said] = caplog.messages
    assert said.startswith("psr: ZeroDivisionError at ")
    engine.submit(request(toy), Sampling(3), events.append)
    until(lambda: engine.open == 0)
    assert len(events) == 4


def test_the_end_fails_what_is_unanswered_and_refuses_what_comes(toy):
    engine, events = Engine(toy), []
    with alone(toy.blocks):
        engine.submit(request(toy), Sampling(100), events.append)
        closing = threading.Thread(target=engine.close)
        until(lambda: engine.running == 1)
        closing.start()
        until(lambda: engine._closed)
    closing.join()
    assert isinstance(events[-1], Failed)
    assert "stopping" in str(events[-1].error)
    with pytest.raises(PsrError, match="stopping"):
        engine.submit(request(toy), Sampling(3), events.append)


def test_generation_in_another_thread_takes_turns_with_the_engine(engine, toy):
    from psr.answers.generation import generate

    module = random_module(toy, 1)
    events: list = []
    [expected] = generate(toy, [request(toy, 0, module)], Sampling(200))
    assert len(expected.token_ids) > 20
    engine.submit(request(toy, 0, module), Sampling(200), events.append)
    until(lambda: len(events) > 0)
    [meanwhile] = generate(toy, [request(toy, 1)], Sampling(5))
    assert len(events) < len(expected.token_ids)  # the engine let it in
    until(lambda: engine.open == 0)
    assert tuple(event.id for event in events) == expected.token_ids
    assert [meanwhile] == generate(toy, [request(toy, 1)], Sampling(5))
