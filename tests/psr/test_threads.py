"""Two threads on one model: each gets its own answers, or is refused; what is steered by hand is steered for all."""

import copy
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from families import FAMILIES, family
from transformers import TextIteratorStreamer
from written import GREEDY, IDS, generated, greedy, logits, strong_module, written

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import Prompt, encode_chat
from psr.lm.models import wrap
from psr.steering.hooks import Steer, hooked, steer, steered
from psr.steering.terms import terms_of
from psr.types import Message

ROUNDS, PATIENCE = 6, 30
SAMPLING = Sampling(8, 0.0)
PROMPTS = [Prompt(IDS, 2), Prompt(IDS[:5], 1), Prompt(IDS[::-1], 3)]


def asked(module, alpha=1.0):
    return [Request(prompt, i, module, alpha if module else 0.0) for i, prompt in enumerate(PROMPTS)]


def told(lm, requests):
    return [answer.token_ids for answer in generate(lm, requests, SAMPLING, batch_size=2)]


def begun(call, *args):
    """`call` in another thread, which does not keep the tests waiting where it waits for ever."""
    future = Future()

    def run():
        try:
            future.set_result(call(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def elsewhere(call):
    """What `call` returns or raises in another thread."""
    return begun(call).result(PATIENCE)


def refused_elsewhere(call):
    with pytest.raises(PsrError, match="another thread steers this model") as caught:
        elsewhere(call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spans", [("R", "QR"), ("R", None), (None, "QR"), ("R", "R", None)])
def test_threads_that_generate_at_once_each_get_the_answers_they_get_alone(lm, spans):
    plans = [asked(span and strong_module(lm.fingerprint, span, seed=seed)) for seed, span in enumerate(spans)]
    alone = [told(lm, plan) for plan in plans]
    assert len({str(answers) for answers in alone}) == len(spans)
    start = threading.Barrier(len(plans))

    def run(plan):
        start.wait(PATIENCE)
        return [told(lm, plan) for _ in range(ROUNDS)]

    futures = [begun(run, plan) for plan in plans]
    for future, expected in zip(futures, alone, strict=True):
        assert future.result(PATIENCE) == [expected] * ROUNDS


def test_generation_waits_for_another_threads_generation_or_fit(lm, model, module):
    expected, inside, go = told(lm, asked(module)), threading.Event(), threading.Event()
    other = strong_module(lm.fingerprint, seed=5)

    def hold(context):
        with context():
            inside.set()
            assert go.wait(PATIENCE)

    terms, start = terms_of([Steer(other, 1.0, 0)], torch.device("cpu")), torch.tensor([0])
    for context in (lambda: hooked(model, terms, start), lambda: steered(model, [Steer(other, 1.0, 0)])):
        inside.clear()
        go.clear()
        held = begun(hold, context)
        assert inside.wait(PATIENCE)
        waiting = begun(told, lm, asked(module))
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        go.set()
        held.result(PATIENCE)
        assert waiting.result(PATIENCE) == expected


def test_generation_in_another_thread_is_refused_while_one_steers_by_hand(lm, model, module):
    terms = terms_of([Steer(module, 1.0, 0)], torch.device("cpu"))
    with steer(model, strong_module(lm.fingerprint, seed=5)):
        for call in (
            lambda: told(lm, asked(module)),
            lambda: told(lm, asked(None)),
            lambda: steer(model, module).__enter__(),
            lambda: steered(model, [Steer(module, 1.0, 0)]).__enter__(),
            lambda: hooked(model, terms, torch.tensor([0])).__enter__(),
        ):
            refused_elsewhere(call)
    assert elsewhere(lambda: told(lm, asked(module))) == told(lm, asked(module))


def test_steering_by_hand_is_refused_while_another_thread_generates(lm, model, module):
    with steered(model, [Steer(module, 1.0, 0)]):
        refused_elsewhere(lambda: steer(model, module).__enter__())
    with steered(model, [Steer(None, 0.0, 0)]):  # nor where what it would disturb is not steered
        refused_elsewhere(lambda: steer(model, module).__enter__())


def test_two_copies_of_a_model_know_nothing_of_each_other(lm, model, module):
    other = wrap(copy.deepcopy(model), lm.tokenizer)
    expected = told(lm, asked(module))
    with steer(model, strong_module(lm.fingerprint, seed=5)):
        assert elsewhere(lambda: told(other, asked(module))) == expected


def test_another_threads_plain_call_is_steered_as_by_hand(model, module):
    expected, plain = greedy(model, IDS, 5, module), generated(model, IDS, 5)[0]
    with steer(model, module):
        elsewhere(lambda: generated(model, IDS, 5)[0]).check(expected)
    elsewhere(lambda: generated(model, IDS, 5)[0]).check(plain)


@pytest.mark.parametrize("span", ["R", "QR"])
def test_a_streamer_yields_the_steered_answer(lm, model, span):
    module, prompt = strong_module(lm.fingerprint, span), encode_chat(lm.tokenizer, (Message("user", "why?"),))
    expected = greedy(model, prompt.ids, 6, module, prompt.start(span)).tokens
    streamer = TextIteratorStreamer(lm.tokenizer, skip_prompt=True, timeout=PATIENCE)
    with steer(model, module, 1.0, lm.tokenizer):
        thread = threading.Thread(
            target=model.generate,
            args=(torch.tensor([prompt.ids]),),
            kwargs={"max_new_tokens": 6, "streamer": streamer, **GREEDY},
        )
        thread.start()
        text = "".join(streamer)
        thread.join(PATIENCE)
    assert text == lm.tokenizer.decode(expected)


def test_contexts_of_one_thread_may_be_nested_and_add_up(lm, model, module):
    other = strong_module(lm.fingerprint, form="Const", seed=7)
    with torch.inference_mode(), written(model, module, [[7]]), written(model, other, [range(3, 8)], 0.5):
        expected = model(input_ids=torch.tensor([IDS])).logits[0]
    for outer, inner in (
        (steer(model, module), steer(model, other, 0.5, start=3)),
        (steered(model, [Steer(module, 1.0, 7)]), steered(model, [Steer(other, 0.5, 3)])),
        (steer(model, module), steered(model, [Steer(other, 0.5, 3)])),
        (steered(model, [Steer(module, 1.0, 7)]), steer(model, other, 0.5, start=3)),
    ):
        with torch.inference_mode(), outer, inner:
            got = model(input_ids=torch.tensor([IDS])).logits[0]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)


def test_a_context_that_is_nested_gives_the_model_free_with_the_last_of_them(lm, model, module):
    with steer(model, module):
        with steer(model, module):
            pass
        refused_elsewhere(lambda: steer(model, module).__enter__())
        refused_elsewhere(lambda: told(lm, asked(module)))
    assert elsewhere(lambda: told(lm, asked(module))) == told(lm, asked(module))


def test_whatever_fails_gives_the_model_free(lm, model, module):
    expected = told(lm, asked(module))

    def fails(context):
        with context:
            raise ZeroDivisionError

    def fails_inside():
        with steer(model, module, start=[1, 2, 3]):
            model(input_ids=torch.tensor([IDS]))

    bad = Steer(module, float("nan"), 0)
    for call, error in (
        (lambda: fails(steer(model, module)), ZeroDivisionError),
        (lambda: fails(steered(model, [Steer(module, 1.0, 0)])), ZeroDivisionError),
        (fails_inside, PsrError),
        (lambda: steered(model, [bad]).__enter__(), PsrError),
        (lambda: steer(model, strong_module("other", d=8)).__enter__(), PsrError),
        (lambda: told(lm, asked(strong_module("of another model"))), PsrError),
    ):
        for where in (lambda run: run(), elsewhere):
            with pytest.raises(error):
                where(call)
        assert elsewhere(lambda: told(lm, asked(module))) == expected


def test_a_probe_that_fails_gives_the_model_free(lm, module, monkeypatch):
    model = copy.deepcopy(FAMILIES["llama"]())

    def fails(*_):
        raise PsrError("no good")

    monkeypatch.setattr("psr.steering.probe.compare", fails)
    for _ in range(2):
        with pytest.raises(PsrError, match="no good"):
            elsewhere(lambda: steer(model, module).__enter__())
    monkeypatch.undo()
    expected = logits(model, IDS, module, [7])[-1]
    with torch.inference_mode(), steer(model, module):
        torch.testing.assert_close(model(input_ids=torch.tensor([IDS])).logits[0, -1], expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["llama", "opt"])
def test_threads_that_generate_under_one_context_each_keep_their_own_prompt(name):
    model, module = FAMILIES[name](), strong_module(family(name).fingerprint)
    prompts = [IDS[:3], IDS, IDS[::-1][:6]]
    expected = [greedy(model, prompt, 6, module) for prompt in prompts]
    for _ in range(ROUNDS):
        with steer(model, module), ThreadPoolExecutor(len(prompts)) as pool:
            for got, wanted in zip(
                pool.map(lambda prompt: generated(model, prompt, 6)[0], prompts), expected, strict=True
            ):
                got.check(wanted)


def test_a_context_that_another_thread_closes_gives_the_model_free(lm, model, module):
    context = steer(model, module)
    context.__enter__()
    elsewhere(lambda: context.__exit__(None, None, None))
    assert elsewhere(lambda: told(lm, asked(module))) == told(lm, asked(module))


def test_a_context_that_an_ended_thread_left_open_is_named(lm, module):
    model = copy.deepcopy(lm.model)
    left = [steered(model, [Steer(module, 1.0, 2)])]
    thread = threading.Thread(target=left[0].__enter__)
    thread.start()
    thread.join(PATIENCE)
    with pytest.raises(PsrError, match="a thread that has ended"), steered(model, [Steer(module, 1.0, 2)]):
        pass
    left[0].__exit__(None, None, None)
    with steered(model, [Steer(module, 1.0, 2)]):
        pass
