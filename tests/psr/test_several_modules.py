"""Several modules at once: each one's term is added to the activation, and every gate reads it before any is added.

The other side is written out here: hooks on whole texts without a cache, columns named one by one.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from families import D_MODEL, FAMILIES, LAYERS, family
from written import IDS, Said, generated, strong_module

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks, recorded
from psr.lm.chats import Prompt, encode_chat
from psr.steering.forms import form_named
from psr.steering.hooks import Steer, steer, steered
from psr.types import Message

NEW = 6
START = {"R": len(IDS) - 1, "QR": 2}
FORMS = ("Const", "PSR", "PSR2", "Proj", "LoReFT2")


def term(module, layer, A):
    """α aside, what one module adds to one activation [d]."""
    p = {name: values[module.layers.index(layer)] for name, values in module.tensors.items()}
    if module.form == "Const":
        return p["z"]
    if module.form == "PSR":
        return torch.relu(A @ p["w"] + p["b"]) * p["z"]
    if module.form == "Proj":
        return (p["t"] - A @ p["z"]) * p["z"]
    lam = torch.relu(p["w"] @ A + p["b"]) if module.form == "PSR2" else p["w"] @ A + p["b"] - p["z"] @ A
    return lam[0] * p["z"][0] + lam[1] * p["z"][1]


@contextmanager
def by_hand(model, parts, in_turn=False):
    """parts: (module, alpha, first column). in_turn: each module reads what those before it added, which is not meant."""

    def hook_for(layer):
        def hook(block, args, output):
            before = output if isinstance(output, torch.Tensor) else output[0]
            A = before.clone()
            for module, alpha, first in parts:
                for column in range(first, A.shape[1]) if layer in module.layers else ():
                    read = A[0, column].clone() if in_turn else before[0, column]
                    A[0, column] += alpha * term(module, layer, read)
            return A if isinstance(output, torch.Tensor) else (A, *output[1:])

        return hook

    handles = [block.register_forward_hook(hook_for(layer)) for layer, block in enumerate(decoder_blocks(model))]
    try:
        with torch.inference_mode():
            yield
    finally:
        for handle in handles:
            handle.remove()


def read(model, ids, parts, in_turn=False):
    """What each block returns, and the logits, of one whole text."""
    with by_hand(model, parts, in_turn), recorded(model, range(LAYERS)) as streams:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return torch.cat([*(streams[layer][0] for layer in range(LAYERS))]), logits


def answer(model, ids, parts, n=NEW):
    text, said = list(ids), []
    for _ in range(n):
        said.append(read(model, text, parts)[1][-1])
        text.append(int(said[-1].argmax()))
    return Said(text[len(ids) :], torch.stack(said))


def of(lm, form="PSR", span="R", layers=(0, 1, 2), seed=0):
    module = strong_module(lm.fingerprint, span, form, layers, seed, D_MODEL)
    quieter = 0.2 if form in ("Proj", "LoReFT2") else 1.0  # strong weights outgrow each other where nothing stops them
    used = form_named(form).settle({name: quieter * values for name, values in module.tensors.items()})
    return replace(module, tensors=used)


def halves(modules, alpha=1.0):
    """Each module with a strength of its own and where its span begins in IDS."""
    return [(module, alpha * (0.5 + 0.4 * i), START[module.span]) for i, module in enumerate(modules)]


def steering(model, parts, **more):
    return steer(model, [module for module, _, _ in parts], [alpha for _, alpha, _ in parts], **more)


@pytest.mark.parametrize("other", FORMS)
@pytest.mark.parametrize("layers", [(0, 1, 2), (0,), (2,)])
def test_terms_are_added_to_what_the_block_returned_whatever_the_forms(lm, model, other, layers):
    parts = halves([of(lm), of(lm, other, layers=layers, seed=1)])
    with torch.inference_mode(), steering(model, parts), recorded(model, range(LAYERS)) as streams:
        said = model(input_ids=torch.tensor([IDS])).logits[0]
    expected, logits = read(model, IDS, parts)
    torch.testing.assert_close(
        torch.cat([streams[layer][0] for layer in range(LAYERS)]), expected, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(said, logits, rtol=1e-4, atol=1e-4)
    alone, _ = read(model, IDS, parts[:1])
    assert float((expected - alone).abs().max()) > 0.01


def test_gates_that_read_one_another_would_be_seen(lm, model):
    """So that the test above fails where terms are added in turn, and where nobody looked at the order."""
    parts = halves([of(lm), of(lm, seed=1)])
    together, in_turn = read(model, IDS, parts)[0], read(model, IDS, parts, in_turn=True)[0]
    assert float((together - in_turn).abs().max()) > 0.1
    torch.testing.assert_close(together, read(model, IDS, parts[::-1])[0], rtol=1e-4, atol=1e-4)
    with torch.inference_mode(), steering(model, parts[1:]), steering(model, parts[:1]):
        nested = model(input_ids=torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(nested, read(model, IDS, parts[::-1], in_turn=True)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma3_text", "mixtral"])
@pytest.mark.parametrize("layers", [((0, 1, 2), (0, 1, 2)), ((0,), (2,))])
def test_generate_is_as_without_a_cache(name, layers):
    lm, model = family(name), FAMILIES[name]()
    parts = halves([of(lm, layers=layers[0]), of(lm, "Const", layers=layers[1], seed=1)])
    expected = answer(model, IDS, parts)
    with steering(model, parts):
        generated(model, IDS, NEW)[0].check(expected)


def test_each_module_keeps_its_own_span(lm, model):
    prompt = encode_chat(lm.tokenizer, (Message("system", "In verse."), Message("user", "why the sun?")))
    modules = [of(lm, span="QR"), of(lm, span="R", seed=1)]
    parts = [(module, 0.8, prompt.start(module.span)) for module in modules]
    expected = answer(model, prompt.ids, parts)
    with steering(model, parts, tokenizer=lm.tokenizer):
        generated(model, prompt.ids, NEW)[0].check(expected)
    moved = [(module, alpha, prompt.start("R")) for module, alpha, _ in parts]
    assert float((expected.logits - answer(model, prompt.ids, moved).logits).abs().max()) > 0.01


def test_a_module_split_in_two_is_the_module(lm, model):
    whole = of(lm)
    with steer(model, whole, 1.4):
        [expected] = generated(model, IDS, NEW)
    for modules, alphas in (([whole, whole], 0.7), ([whole, of(lm)], [0.4, 1.0]), ([whole], [1.4])):
        with steer(model, modules, alphas):
            generated(model, IDS, NEW)[0].check(expected)


def test_rows_carry_none_one_or_several_modules_and_answer_as_if_alone(lm, model):
    """By psr.generate, whose rows have prompts of several lengths and leave the batch when they stop."""
    a, b, c = of(lm, span="QR"), of(lm, "Const", seed=1), of(lm, "PSR2", "QR", (1,), seed=2)
    carried = [((), ()), (a, 0.7), ((a, b), (0.6, 0.9)), ((c, b, a), 0.5), (b, 1.0)]
    prompts = [Prompt((*IDS[: 4 + row % 3], 9 + row), 2) for row in range(len(carried))]
    requests = [Request(prompt, 0, *one) for prompt, one in zip(prompts, carried, strict=True)]
    answers = generate(lm, requests, Sampling(NEW, temperature=0))
    for prompt, request, got in zip(prompts, requests, answers, strict=True):
        parts = [(one.module, one.alpha, prompt.start(one.module.span)) for one in request.steers]
        tokens = answer(model, prompt.ids, parts).tokens
        stop = next((i + 1 for i, token in enumerate(tokens) if token in lm.stop_ids), NEW)
        assert list(got.token_ids) == tokens[:stop]
    alike = generate(lm, [replace(one, prompt=prompts[0]) for one in requests], Sampling(NEW, temperature=0))
    assert len({answer.token_ids for answer in alike}) > 3


def test_rows_of_a_batch_may_mix_one_steer_and_several(lm, model):
    a, b = of(lm), of(lm, seed=1)
    with torch.inference_mode(), steered(model, [Steer(a, 0.5, 3), (Steer(a, 0.5, 3), Steer(b, 0.7, 5)), ()]):
        got = model(input_ids=torch.tensor([IDS] * 3)).logits
    for row, parts in enumerate(([(a, 0.5, 3)], [(a, 0.5, 3), (b, 0.7, 5)], [])):
        torch.testing.assert_close(got[row], read(model, IDS, parts)[1], rtol=1e-4, atol=1e-4)


def test_a_target_is_reached_with_others_exactly_where_they_add_nothing_along_it(lm, model):
    module = of(lm, "Proj", layers=(1,))
    z = module.tensors["z"][0] / module.tensors["z"][0].norm()
    goal = replace(module, tensors={"z": z[None], "t": torch.tensor([3.0])})
    aside = torch.nn.functional.normalize(torch.ones(D_MODEL) - z.sum() * z, dim=0)
    for direction, reached in ((aside, True), (z, False)):
        push = replace(of(lm, "Const", layers=(1,)), tensors={"z": 2 * direction[None]})
        with torch.inference_mode(), steer(model, [goal, push]), recorded(model, [1]) as streams:
            model(input_ids=torch.tensor([IDS]))
        got = float(streams[1][0, -1] @ z)
        assert got == pytest.approx(3.0 if reached else 5.0, abs=1e-3)


@pytest.mark.parametrize(
    ("modules", "alpha", "more", "message"),
    [
        ([], 1.0, {}, "no module to steer with"),
        (["R", "R"], [1.0], {}, "do not go together .* 2 of them.* got 1"),
        (["R"], [1.0, 2.0], {}, "do not go together"),
        (["R", "R"], [1.0, float("nan")], {}, "alpha is not a finite number"),
        (["R", "QR"], 1.0, {}, "needs to know where it begins"),
        (["R", "QR"], 1.0, {"start": 3}, "do not begin at one position"),
    ],
)
def test_what_cannot_be_established_is_refused_in_one_line(lm, model, modules, alpha, more, message):
    with pytest.raises(PsrError, match=message), steer(model, [of(lm, span=span) for span in modules], alpha, **more):
        pass


def test_one_module_of_another_model_is_refused_among_others(lm, model):
    stranger = replace(of(lm), model="feedfeedfeed-00000000", id="stranger")
    with pytest.raises(PsrError, match="stranger"), steer(model, [of(lm), stranger], tokenizer=lm.tokenizer):
        pass
    with pytest.raises(PsrError, match="stranger"):
        generate(lm, [Request(Prompt(IDS, 2), 0, (of(lm), stranger), 1.0)], Sampling(2))
    with pytest.raises(PsrError, match="do not go together"):
        generate(lm, [Request(Prompt(IDS, 2), 0, (of(lm), of(lm)), (1.0,))], Sampling(2))
