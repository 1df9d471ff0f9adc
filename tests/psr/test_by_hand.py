"""Steering by hand acts where the same text, steered without a cache at columns named one by one, is steered."""

import copy

import pytest
import torch
from families import FAMILIES, family
from transformers import pipeline
from written import GREEDY, IDS, Said, generated, greedy, logits, strong_module

from psr.lm.cached import cache_argument
from psr.lm.chats import encode_chat
from psr.steering.hooks import steer
from psr.types import Message

NEW = 6
FEW = ("llama", "gemma3_text", "gpt2", "opt", "mixtral")
SHORT = IDS[2:5]


def read_with_cache(model, chunks, cache=None):
    """Logits of every token, each chunk given after what the cache holds already; and the cache."""
    name, said = cache_argument(model), []
    for chunk in chunks:
        with torch.inference_mode():
            out = model(input_ids=torch.tensor([chunk]), use_cache=True, **({} if cache is None else {name: cache}))
        cache = out[name]
        said.append(out.logits[0])
    return torch.cat(said), cache


@pytest.mark.parametrize("name", FEW)
def test_steering_changes_what_is_said_so_that_these_tests_see_it(name):
    model, module = FAMILIES[name](), strong_module(family(name).fingerprint)
    said = [logits(model, IDS, module, columns)[-1] for columns in ((), (7,), (6, 7), (5, 6, 7), range(8))]
    assert all(float((one - other).abs().max()) > 0.01 for i, one in enumerate(said) for other in said[:i])
    assert int(said[0].argmax()) != int(said[1].argmax())


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("name", FEW)
def test_r_steers_the_last_token_of_each_turn_and_its_answer_while_the_cache_is_kept(name, turns):
    model, module = FAMILIES[name](), strong_module(family(name).fingerprint)
    chunks, columns, at = [], [], 0
    for prompt in [(5, 40, 61, 90), (33, 12, 77), (8, 9, 21, 35, 66)][:turns]:
        chunks += [prompt, (97,), (205,), (42,)]
        columns += range(at + len(prompt) - 1, at + len(prompt) + 3)
        at += len(prompt) + 3
    with steer(model, module):
        said, _ = read_with_cache(model, chunks)
    expected = logits(model, sum(chunks, ()), module, columns)
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)


def test_qr_steers_from_the_first_user_turn_on_in_every_turn(lm, model):
    module = strong_module(lm.fingerprint, "QR")
    chat = [Message("user", "why?")]
    first = encode_chat(lm.tokenizer, chat)
    chunks = [first.ids, (97,), (205,), (8, 9, 21), (35,), (66, 12), (77,)]
    with steer(model, module, 1.0, lm.tokenizer):
        said, _ = read_with_cache(model, chunks)
    everything = sum(chunks, ())
    expected = logits(model, everything, module, range(first.question, len(everything)))
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("span", ["R", "QR"])
def test_conversations_that_take_turns_are_each_steered_as_if_alone(lm, model, span):
    """Each with its own cache; one is copied, so that two rows go on from one prompt."""
    module, name = strong_module(lm.fingerprint, span), cache_argument(model)
    chats = [(Message("system", text), Message("user", "why?")) for text in ("In verse.", "Be brief.\n" * 4)]
    one, other = (encode_chat(lm.tokenizer, chat) for chat in chats)
    assert other.question > len(one.ids) + 3
    with torch.inference_mode(), steer(model, module, 1.0, lm.tokenizer):
        first = model(input_ids=torch.tensor([one.ids]), use_cache=True)
        model(input_ids=torch.tensor([other.ids]), use_cache=True)
        cache = first[name]
        cache.batch_repeat_interleave(2)
        model(input_ids=torch.tensor([[97], [205]]), **{name: cache})
        got = model(input_ids=torch.tensor([[8, 9], [21, 35]]), **{name: cache}).logits
    for row, more in zip(got, [(97, 8, 9), (205, 21, 35)], strict=True):
        n = len(one.ids)
        columns = [n - 1, n, n + 2] if span == "R" else range(one.question, n + 3)
        torch.testing.assert_close(row, logits(model, one.ids + more, module, columns)[-2:], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("span", ["R", "QR"])
def test_a_second_turn_of_generate_that_is_handed_the_cache_is_steered_as_its_prompt_says(lm, model, span):
    module = strong_module(lm.fingerprint, span)
    prompt = encode_chat(lm.tokenizer, (Message("user", "why?"),))
    with steer(model, module, 1.0, lm.tokenizer), torch.inference_mode():
        out = model.generate(torch.tensor([prompt.ids]), max_new_tokens=4, return_dict_in_generate=True, **GREEDY)
        ids = [*out.sequences[0].tolist(), *SHORT]
        (got,) = generated(model, tuple(ids), NEW, **{cache_argument(model): out["past_key_values"]})
    # R leaves the first turn as it was and begins anew; QR goes on
    first, again = prompt.start(span), len(ids) - 1
    columns, said = (range(first, first + 4) if span == "R" else range(first, again)), []
    for _ in range(NEW):
        said.append(logits(model, ids, module, {*columns, *range(again, len(ids))})[-1])
        ids.append(int(said[-1].argmax()))
    got.check(Said(ids[-NEW:], torch.stack(said)))


ASSISTANT = copy.deepcopy(FAMILIES["llama"]())
WAYS = {
    "as it is": {},
    "without a cache": {"use_cache": False},
    "with an assistant": {"assistant_model": ASSISTANT},
    "with prompt lookup": {"prompt_lookup_num_tokens": 2},
    "with the prompt in chunks": {"prefill_chunk_size": 3},
    "with its mask": {"attention_mask": torch.ones(1, len(IDS), dtype=torch.long)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("span", ["R", "QR"])
@pytest.mark.filterwarnings("ignore:Passing `generation_config`")
def test_generate_says_what_greedy_steering_without_cache_says(lm, model, way, span):
    prompt = encode_chat(lm.tokenizer, (Message("system", "In verse."), Message("user", "why is the sun?")))
    module = strong_module(lm.fingerprint, span)
    told = {**WAYS[way], **({"attention_mask": torch.ones(1, len(prompt.ids))} if "mask" in way else {})}
    with steer(model, module, 1.0, lm.tokenizer):
        (got,) = generated(model, prompt.ids, NEW, **told)
    got.check(greedy(model, prompt.ids, NEW, module, prompt.start(span)))


def test_the_model_may_be_its_own_assistant(model, module):
    with steer(model, module):
        (got,) = generated(model, IDS, NEW, assistant_model=model)
    got.check(greedy(model, IDS, NEW, module))


def test_generate_from_embeddings_begins_at_the_last_of_them(model, module):
    embeddings, expected = model.get_input_embeddings()(torch.tensor([IDS])), greedy(model, IDS, NEW, module)
    with steer(model, module):
        generated(model, None, NEW, inputs_embeds=embeddings)[0].check(expected)
        generated(model, IDS, NEW, inputs_embeds=embeddings)[0].check(expected)


@pytest.mark.parametrize(
    "told",
    [
        {"inputs": torch.tensor([IDS])},
        {"input_ids": torch.tensor([IDS])},
        {"inputs": None, "input_ids": torch.tensor([IDS])},
    ],
    ids=str,
)
def test_the_prompt_is_found_however_it_is_handed_to_generate(model, module, told):
    with torch.inference_mode(), steer(model, module):
        got = model.generate(max_new_tokens=NEW, **told, **GREEDY)[0, len(IDS) :].tolist()
        placeless = generated(model, None, NEW, input_ids=torch.tensor([IDS]))[0]
    expected = greedy(model, IDS, NEW, module)
    assert got == expected.tokens
    placeless.check(expected)


def test_generate_from_nothing_is_steered_from_the_first_token_on(model, module):
    with steer(model, module):
        (got,) = generated(model, None, NEW)
    got.check(greedy(model, [1], NEW, module))


def test_a_pipeline_is_steered_as_its_prompt_says(lm, module):
    chat = [{"role": "user", "content": "why is the sun?"}]
    speak = pipeline("text-generation", model=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), device="cpu")
    with steer(lm.model, module):
        got = speak(chat, max_new_tokens=NEW, return_tensors=True, do_sample=False)
    ids = encode_chat(lm.tokenizer, (Message("user", chat[0]["content"]),)).ids
    expected = greedy(lm.model, ids, NEW, module).tokens
    assert got[0]["generated_token_ids"][: len(ids) + 1] == [*ids, expected[0]]
    assert got[0]["generated_token_ids"] == [*ids, *expected][: len(got[0]["generated_token_ids"])]
