"""Generation on tiny random models of every family, against an uncached loop, transformers' own and each row alone."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, family

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.cached import fresh_cache, next_logits
from psr.lm.chats import Prompt
from psr.lm.models import LanguageModel, wrap
from psr.lm.padding import pad
from psr.steering.module import SteeringModule

SAMPLING = Sampling(max_new_tokens=20)  # with the longest prompt, beyond the sliding windows of 16
every_family = pytest.mark.parametrize("name", sorted(FAMILIES))


def prompt_of(length, seed=0, question=None):
    ids = np.random.default_rng(seed + 100 * length).integers(5, 300, length)
    return Prompt(tuple(ids.tolist()), length // 2 if question is None else question)


def module_for(lm, form="PSR", layers=(0, 1, 2), span="R", seed=0, size=0.4):
    generator = torch.Generator().manual_seed(seed)
    d = lm.d_model
    tensors = {"z": torch.randn(len(layers), d, generator=generator) * size}
    if form == "PSR":
        tensors["w"] = torch.randn(len(layers), d, generator=generator) * 0.3
        tensors["b"] = torch.rand(len(layers), generator=generator)
    return SteeringModule(f"{form}-{span}-{seed}", form, tuple(layers), span, lm.fingerprint, tensors)


def mixed(lm):
    """Rows that differ in length, seed, module, form, layers, span and strength; two are not steered."""
    modules = [module_for(lm), module_for(lm, "Const", (1,), "QR", 1), module_for(lm, "PSR", (0, 2), "QR", 2), None]
    rows = [(3, 0, 1.0), (9, 1, 0.7), (14, 2, 1.5), (6, 3, 0.0), (9, 0, -0.8), (5, 1, 0.0)]
    return [Request(prompt_of(length, i), 40 + i, modules[m], alpha) for i, (length, m, alpha) in enumerate(rows)]


def without_stops(lm, stop_ids=()):
    """The same model with other stop tokens."""
    other = LanguageModel(lm.model, lm.tokenizer, lm.fingerprint)
    vars(other)["stop_ids"] = tuple(stop_ids)
    return other


def uncached(lm, request, sampling):
    """The slow way: the whole sequence again for every token, steering and sampling written out by hand."""
    ids = list(request.prompt.ids)
    draws = np.random.Generator(np.random.Philox(key=request.seed)).random(sampling.max_new_tokens)
    handles = []
    if request.module is not None:
        for i, layer in enumerate(request.module.layers):
            handles.append(lm.blocks[layer].register_forward_hook(by_hand(request, i)))
    try:
        for u in draws:
            with torch.no_grad():
                logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
            cumulative = np.cumsum(torch.softmax(logits / sampling.temperature, -1).numpy())
            ids.append(int(np.flatnonzero(cumulative > u * cumulative[-1])[0]))
            if ids[-1] in lm.stop_ids:
                break
    finally:
        for handle in handles:
            handle.remove()
    return tuple(ids[len(request.prompt.ids) :])


def by_hand(request, i):
    tensors = {name: values[i] for name, values in request.module.tensors.items()}
    start = len(request.prompt.ids) - 1 if request.module.span == "R" else request.prompt.question

    def hook(block, args, output):
        A = (output if torch.is_tensor(output) else output[0]).clone()
        for t in range(start, A.shape[1]):
            lam = max(0.0, float(A[0, t] @ tensors["w"] + tensors["b"])) if "w" in tensors else 1.0
            A[0, t] += request.alpha * lam * tensors["z"]
        return A if torch.is_tensor(output) else (A, *output[1:])

    return hook


@every_family
def test_cached_equals_uncached_and_steering_by_hand(name):
    lm = family(name)
    requests = mixed(lm)
    assert [answer.token_ids for answer in generate(lm, requests, SAMPLING)] == [
        uncached(lm, request, SAMPLING) for request in requests
    ]


@every_family
def test_rows_of_one_batch_answer_as_each_does_alone(name):
    lm = family(name)
    requests = mixed(lm)
    alone = [generate(lm, [request], SAMPLING)[0] for request in requests]
    assert generate(lm, requests, SAMPLING) == alone
    assert generate(lm, requests, SAMPLING, batch_size=4) == alone
    assert generate(lm, requests[::-1], SAMPLING, batch_size=2) == alone[::-1]


@every_family
def test_alpha_zero_is_bit_exact(name):
    lm = family(name)
    module = module_for(lm, span="QR", size=5.0)
    plain = [Request(prompt_of(n), n) for n in (4, 9)]
    zero = [replace(request, module=module, alpha=0.0) for request in plain]
    assert generate(lm, zero, SAMPLING) == generate(lm, plain, SAMPLING)
    beside = [*zero, Request(prompt_of(9, 1), 1, module, 1.0)]
    assert generate(lm, beside, SAMPLING)[:2] == generate(lm, [*plain, Request(prompt_of(9, 1), 1)], SAMPLING)[:2]


@every_family
def test_left_padded_logits_equal_unpadded_ones(name):
    lm = family(name)
    short, long = prompt_of(5).ids, prompt_of(21).ids
    ids, attention = pad([short, long], lm.pad_id)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = next_logits(lm.model, ids, attention, positions, fresh_cache(lm.model))
        for row, sequence in enumerate((short, long)):
            alone = lm.model(input_ids=torch.tensor([sequence])).logits[0, -1]
            torch.testing.assert_close(padded[row], alone, rtol=1e-4, atol=1e-5)


@every_family
def test_greedy_answers_equal_those_of_transformers(name):
    lm = without_stops(family(name))
    prompts = [prompt_of(n) for n in (4, 11)]
    answers = generate(lm, [Request(prompt, 0) for prompt in prompts], Sampling(12, temperature=0))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt.ids])
        options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
        made = lm.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert answer.token_ids == tuple(made[0, len(prompt.ids) :].tolist())
        assert not answer.finished


@every_family
def test_the_same_seed_gives_the_same_answer_and_another_seed_another(name):
    lm = family(name)
    module = module_for(lm)
    requests = [Request(prompt_of(6), seed, module, 1.0) for seed in (1, 2)]
    first, second = generate(lm, requests, SAMPLING)
    assert first.token_ids != second.token_ids
    assert generate(lm, requests, SAMPLING) == [first, second]


@every_family
def test_a_module_fitted_in_float32_steers_the_same_model_in_bfloat16(name):
    whole = family(name)
    half = wrap(copy.deepcopy(whole.model).bfloat16(), whole.tokenizer)
    request = Request(prompt_of(9), 7, module_for(whole, size=3.0), 2.0)
    steered, plain = generate(half, [request, replace(request, alpha=0.0)], SAMPLING)
    assert steered.token_ids != plain.token_ids


@every_family
def test_steering_changes_the_answer_from_its_first_token(name):
    lm = family(name)
    greedy = Sampling(1, temperature=0)
    for span in ("R", "QR"):
        module = module_for(lm, "Const", span=span, size=5.0)
        plain = generate(lm, [Request(prompt_of(9), 0)], greedy)
        others = generate(lm, [Request(prompt_of(9), 0, module, alpha) for alpha in (-4.0, -2.0, 2.0, 4.0)], greedy)
        assert any(other != plain[0] for other in others)


def test_an_answer_ends_with_its_first_stop_token_and_its_text_leaves_it_out():
    lm = without_stops(family("llama"))
    request = Request(prompt_of(6), 3)
    whole = generate(lm, [request], SAMPLING)[0].token_ids
    stop = whole[7]
    cut = whole[: whole.index(stop) + 1]
    answer = generate(without_stops(lm, (299, stop)), [request], SAMPLING)[0]
    assert (answer.token_ids, answer.finished) == (cut, True)
    assert answer.text == lm.tokenizer.decode(list(cut[:-1]), skip_special_tokens=True)


@every_family
def test_rows_that_stop_early_change_nothing_for_the_others(name):
    lm = without_stops(family(name), range(0, 300, 12))
    modules = [module_for(lm), module_for(lm, "Const", (1,), "QR", 1), None]
    requests = [Request(prompt_of(3 + i % 9, i), i, modules[i % 3], 0.5 + i % 2) for i in range(12)]
    answers = generate(lm, requests, Sampling(40))
    assert len({len(answer.token_ids) for answer in answers}) > 4
    assert answers == [generate(lm, [request], Sampling(40))[0] for request in requests]


def test_finished_rows_leave_the_batch_and_the_last_stop_ends_it():
    lm = without_stops(family("llama"), range(0, 300, 12))
    sizes = []
    handle = lm.base.register_forward_hook(lambda base, args, output: sizes.append(len(output.last_hidden_state)))
    try:
        answers = generate(lm, [Request(prompt_of(5, i), i) for i in range(16)], Sampling(100))
    finally:
        handle.remove()
    longest = max(len(answer.token_ids) for answer in answers)
    assert all(answer.finished for answer in answers)
    assert (sizes[0], len(sizes) < longest + 4) == (16, True)
    assert sizes[-1] < 8


def test_requests_that_must_come_out_equal_are_answered_once():
    lm = family("llama")
    module, sizes = module_for(lm), []
    requests = [Request(prompt_of(6), 1), Request(prompt_of(6), 1, module, 0.0), Request(prompt_of(6), 1, module, 1.0)]
    handle = lm.base.register_forward_hook(lambda base, args, output: sizes.append(len(output.last_hidden_state)))
    try:
        answers = generate(lm, requests, Sampling(1))
    finally:
        handle.remove()
    assert answers[0] == answers[1]
    assert sizes == [2]


def test_one_prompt_and_seed_at_many_strengths_modules_and_spans_answers_as_each_does_alone():
    lm = family("llama")
    modules = [module_for(lm), module_for(lm, span="QR"), module_for(lm, seed=1)]
    requests = [Request(prompt_of(8), 1, module, alpha) for module in modules for alpha in (0.0, 0.5, 1.0, 2.0)]
    answers = generate(lm, requests, SAMPLING)
    assert answers == [generate(lm, [request], SAMPLING)[0] for request in requests]
    assert len({answer.token_ids for answer in answers}) > 6


def test_progress_counts_every_request_once_and_nothing_to_do_is_nothing():
    lm, done = family("gpt2"), []
    requests = [Request(prompt_of(3 + i), i // 2) for i in range(5)] + [Request(prompt_of(3), 0)]
    generate(lm, requests, Sampling(2), batch_size=2, progress=done.append)
    assert (sum(done), len(done)) == (6, 3)
    assert generate(lm, [], Sampling(2), progress=done.append) == []


def test_no_hook_is_left_behind_even_after_an_error():
    lm = family("llama")
    module = module_for(lm, "Const", size=1e30)
    before = [len(block._forward_hooks) for block in lm.blocks]  # transformers may keep some of its own
    with pytest.raises(PsrError, match=r"not finite.*smaller alpha"):
        generate(lm, [Request(prompt_of(6), 1, module, 1e20)], Sampling(4))
    assert [len(block._forward_hooks) for block in lm.blocks] == before
    assert not lm.base._forward_pre_hooks


def test_impossible_requests_are_refused_with_the_reason():
    lm = family("llama")
    module = module_for(lm)
    fits = Request(prompt_of(lm.context - 4), 0)
    assert len(generate(lm, [fits], Sampling(4))) == 1
    with pytest.raises(PsrError, match=rf"request 1.*at most {lm.context} .*{lm.context - 4} of the prompt \+ 5 new"):
        generate(lm, [Request(prompt_of(3), 0), fits], Sampling(5))
    with pytest.raises(PsrError, match="empty prompt"):
        generate(lm, [Request(Prompt((), 0), 0)], Sampling(5))
    for alpha in (math.nan, math.inf, -math.inf):
        with pytest.raises(PsrError, match="alpha is not a finite number"):
            generate(lm, [Request(prompt_of(3), 0, module, alpha)], Sampling(5))
    with pytest.raises(PsrError, match="another model"):
        generate(lm, [Request(prompt_of(3), 0, replace(module, model="0" * 16), 0.0)], Sampling(5))
    with pytest.raises(PsrError, match="batch_size"):
        generate(lm, [fits], Sampling(4), batch_size=0)
