"""Completions: which side of the pair is asked, whose id they carry, and which random numbers they share."""

import math
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, family

from psr.answers.completions import Ask, complete, row_seed
from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import encode_chat
from psr.steering.module import SteeringModule
from psr.types import INSTRUCTED, PLAIN, PromptPair

SAMPLING = Sampling(max_new_tokens=8)
PAIR = PromptPair("persona/brief", "What color is the sky?", "Be brief.")


def module_for(lm, name="m", span="R"):
    z = torch.randn(3, lm.d_model, generator=torch.Generator().manual_seed(0))
    return SteeringModule(name, "Const", (0, 1, 2), span, lm.fingerprint, {"z": z})


def test_each_method_asks_its_side_of_the_pair():
    lm = family("gpt2")
    module = module_for(lm)
    asks = [Ask(PAIR, PLAIN, 0), Ask(PAIR, INSTRUCTED, 0), Ask(PAIR, "m", 0, module, 0.5),
            Ask(PAIR, "m", 0, module, 0.5, instructed=True)]  # fmt: skip
    sides = [PAIR.plain, PAIR.instructed, PAIR.plain, PAIR.instructed]
    strengths = [(None, 0.0), (None, 0.0), (module, 0.5), (module, 0.5)]
    requests = [
        Request(encode_chat(lm.tokenizer, side), row_seed(PAIR.question, 0), *strength)
        for side, strength in zip(sides, strengths, strict=True)
    ]
    made = complete(lm, asks, Sampling(30))
    answers = [generate(lm, [request], Sampling(30))[0] for request in requests]
    assert [(c.token_ids, c.text, c.finished) for c in made] == [(a.token_ids, a.text, a.finished) for a in answers]
    assert len({c.token_ids for c in made}) == 4


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("span", ["R", "QR"])
def test_every_family_completes_chats_and_alpha_zero_is_the_plain_completion(name, span):
    lm = family(name)
    module = module_for(lm, span=span)
    plain, zero, steered = complete(
        lm, [Ask(PAIR, PLAIN, 3), Ask(PAIR, "m", 3, module, 0.0), Ask(PAIR, "m", 3, module, 3.0)], SAMPLING
    )
    assert zero.token_ids == plain.token_ids
    assert steered.token_ids != plain.token_ids


def test_a_completion_is_traced_to_its_pair_model_and_sampling():
    lm = family("gpt2")
    module = module_for(lm)
    asks = [Ask(PAIR, PLAIN, 5), Ask(PAIR, "m", 5, module, 0.5), Ask(PAIR, "m", 5, module, 0.5, instructed=True)]
    made = complete(lm, asks, SAMPLING)
    assert [c.method for c in made] == ["plain", "m", "m+instructed"]
    assert [c.id for c in made] == [ask.id(lm.fingerprint, SAMPLING) for ask in asks]
    assert {(c.pair, c.seed, c.model, c.sampling) for c in made} == {(PAIR.id, 5, lm.fingerprint, SAMPLING.key)}
    assert len({c.id for c in made}) == 3


def test_order_and_batch_size_change_nothing():
    lm = family("qwen2")
    module = module_for(lm)
    pairs = [replace(PAIR, question=question) for question in ("Why?", "How is the sun in the sky?", PAIR.question)]
    asks = [Ask(pair, PLAIN, seed) for pair in pairs for seed in (0, 1)]
    asks += [Ask(pair, "m", 0, module, alpha) for pair in pairs for alpha in (0.5, 2.0)]
    made = complete(lm, asks, SAMPLING)
    assert complete(lm, asks[::-1], SAMPLING, batch_size=5) == made[::-1]


def test_equal_questions_share_random_numbers_and_seeds_do_not():
    assert row_seed("Why?", 0) == row_seed("Why?", 0)
    assert len({row_seed("Why?", 0), row_seed("Why?", 1), row_seed("How?", 0)}) == 3
    lm = family("llama")
    other = PromptPair("persona/verse", PAIR.question, "Answer in verse.")
    first, second = complete(lm, [Ask(PAIR, PLAIN, 0), Ask(other, PLAIN, 0)], SAMPLING)
    assert first.token_ids == second.token_ids
    assert first.id != second.id


def test_contradictory_asks_are_refused():
    module = module_for(family("llama"))
    for wrong in (
        {"method": "m"},
        {"method": "other", "module": module},
        {"method": PLAIN, "module": module},
        {"method": PLAIN, "alpha": 1.0},
        {"method": PLAIN, "instructed": True},
        {"method": INSTRUCTED, "alpha": math.nan},
    ):
        with pytest.raises(PsrError, match=PAIR.id):
            Ask(PAIR, seed=0, **wrong)


def test_a_chat_that_cannot_be_asked_is_refused_before_anything_is_made():
    lm, done = family("llama"), []
    asks = [Ask(PAIR, PLAIN, 0), Ask(replace(PAIR, question="sun " * 200), PLAIN, 0)]
    with pytest.raises(PsrError, match="context"):
        complete(lm, asks, SAMPLING, progress=done.append)
    assert done == []
