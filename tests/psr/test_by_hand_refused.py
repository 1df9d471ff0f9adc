"""Where steering by hand begins is told, or refused; whatever happens, the model is afterwards as it was."""

import copy
import functools

import pytest
import torch
from families import FAMILIES, family
from transformers import StaticCache
from written import GREEDY, IDS, generated, greedy, left_padded, strong_module

from psr.errors import PsrError
from psr.lm.cached import cache_argument
from psr.lm.chats import encode_chat
from psr.steering.hooks import Steer, hooked, steer, steered
from psr.steering.terms import terms_of
from psr.types import Message

TWO = torch.tensor([IDS, IDS[::-1]])


def refused(match, call):
    with torch.inference_mode(), pytest.raises(PsrError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "told",
    [
        {"cache_implementation": "static"},
        {"cache_implementation": "offloaded_static"},
    ],
    ids=str,
)
def test_a_static_cache_in_generate_is_refused(model, module, told):
    with steer(model, module):
        refused("needs a plain attention mask", lambda: model.generate(TWO, max_new_tokens=3, **GREEDY, **told))


def test_a_static_cache_that_is_filled_by_hand_is_read(model, module):
    """Where it is handed over without a mask of its own kind, its length is known."""
    cache = StaticCache(config=model.config, max_cache_len=16)
    with torch.inference_mode(), steer(model, module):
        got = [model(input_ids=TWO[:1], **{cache_argument(model): cache}).logits[0, -1]]
        for token in (97, 205):
            got.append(model(input_ids=torch.tensor([[token]]), **{cache_argument(model): cache}).logits[0, -1])
    expected = greedy(model, IDS, 1, module).logits[0]
    torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=2e-4)
    again = greedy(model, (*IDS, 97, 205), 1, module, start=7).logits[0]
    torch.testing.assert_close(got[2], again, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("chunk", [[9], [9, 21, 35]])
def test_on_qr_a_conversation_whose_beginning_was_not_seen_is_refused(lm, model, chunk):
    module = strong_module(lm.fingerprint, "QR")
    prompt = torch.tensor([encode_chat(lm.tokenizer, (Message("user", "why?"),)).ids])
    name = cache_argument(model)
    cache = model(input_ids=prompt, use_cache=True)[name]
    with steer(model, module, 1.0, lm.tokenizer):
        refused(
            "the beginning of this conversation was not seen",
            lambda: model(input_ids=torch.tensor([chunk]), **{name: cache}),
        )
    with steer(model, module, 1.0, start=2):  # whoever knows it may say so
        assert model(input_ids=torch.tensor([chunk]), **{name: cache}).logits.shape[1] == len(chunk)


@pytest.mark.parametrize("ids", [IDS, (1, *IDS), (1, 3, *IDS)])
def test_on_qr_a_prompt_that_is_no_chat_of_the_template_is_refused(lm, model, ids):
    module = strong_module(lm.fingerprint, "QR")
    with steer(model, module, 1.0, lm.tokenizer):
        refused("the user turn cannot be found", lambda: model(input_ids=torch.tensor([ids])))
        refused("the user turn cannot be found", lambda: generated(model, ids, 3))


def test_on_qr_embeddings_are_refused(lm, model):
    module = strong_module(lm.fingerprint, "QR")
    embeddings = model.get_input_embeddings()(TWO)
    with steer(model, module, 1.0, lm.tokenizer):
        refused("can only be found in token ids", lambda: model(inputs_embeds=embeddings))
        refused("can only be found in token ids", lambda: generated(model, None, 3, inputs_embeds=embeddings))


def test_on_qr_a_template_that_moves_the_system_turn_is_refused():
    lm = family("mixtral")
    refused(
        "moves the system turn",
        lambda: steer(lm.model, strong_module(lm.fingerprint, "QR"), 1.0, lm.tokenizer).__enter__(),
    )


@pytest.mark.parametrize("start", [[2, 3, 4], [2, 3, 4, 5, 6, 7]])
def test_another_number_of_rows_than_starts_is_refused(model, module, start):
    with steer(model, module, 1.0, start=start):
        refused("set for other rows", lambda: model(input_ids=TWO))
        refused("set for other rows", lambda: model(input_ids=TWO[:1]))
        refused("set for other rows", lambda: model.generate(TWO, max_new_tokens=3, **GREEDY))


def test_beams_begin_where_the_row_that_they_continue_does(model, module):
    settings = {"num_beams": 3, "max_new_tokens": 3, **GREEDY}
    with torch.inference_mode():
        with steer(model, module, 1.0, start=[2, 3]):
            both = model.generate(TWO, **settings)
        for row, start in enumerate((2, 3)):
            with steer(model, module, 1.0, start=start):
                alone = model.generate(TWO[row : row + 1], **settings)
            assert torch.equal(both[row, : alone.shape[1]], alone[0])


@pytest.mark.parametrize(("planned", "given"), [(3, 2), (3, 1), (2, 1), (2, 4)])
def test_another_number_of_rows_than_were_planned_is_refused(model, module, planned, given):
    rows, ids = [Steer(module, 1.0, 2)] * planned, TWO[:1].repeat(given, 1)
    with steered(model, rows):
        refused("set for other rows", lambda: model(input_ids=ids))
    with hooked(model, terms_of(rows, torch.device("cpu")), torch.full((planned,), 2)):
        refused("set for other rows", lambda: model(input_ids=ids))


def test_a_start_wins_over_what_the_prompt_says(lm, model):
    module = strong_module(lm.fingerprint, "QR")
    expected = greedy(model, IDS, 4, module, start=2)
    for start in (2, [2]):
        with steer(model, module, 1.0, start=start):
            generated(model, IDS, 4)[0].check(expected)
            generated(model, IDS, 4, prefill_chunk_size=3)[0].check(expected)
    ids, attention = left_padded([IDS[2:5], IDS])
    with steer(model, module, 1.0, start=[1, 4]):
        got = generated(model, ids, 4, attention_mask=attention)
    got[0].check(greedy(model, IDS[2:5], 4, module, start=1))
    got[1].check(greedy(model, IDS, 4, module, start=4))


@pytest.mark.parametrize("start", [-1, [2, -3], [-5], 1.7, "2", [1.5], []])
def test_a_start_that_is_no_place_in_a_text_is_refused(model, module, start):
    refused("a span cannot begin there", lambda: steer(model, module, start=start).__enter__())


def test_generate_is_the_models_own_again_after_the_context(model, module):
    before = generated(model, IDS, 4)[0]
    with steer(model, module):
        assert "generate" in model.__dict__
        with steer(model, module, 0.5):
            pass
        generated(model, IDS, 4)[0].check(once := generated(model, IDS, 4)[0])
    assert "generate" not in model.__dict__
    once.check(greedy(model, IDS, 4, module))
    generated(model, IDS, 4)[0].check(before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PsrError])
def test_generate_is_the_models_own_again_after_an_exception(model, module, error):
    with pytest.raises(error), steer(model, module):
        raise error("stop")
    assert "generate" not in model.__dict__


def test_a_generate_that_somebody_set_on_the_model_is_called_and_kept(module):
    model, calls = copy.deepcopy(FAMILIES["llama"]()), []
    own = model.generate

    def counted(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    model.generate = counted
    with steer(model, module):
        (got,) = generated(model, IDS, 4)
    assert model.__dict__["generate"] is counted
    assert calls == [1]
    got.check(greedy(model, IDS, 4, module))


def test_a_generate_that_failed_leaves_no_prompt_behind(model, module):
    expected = greedy(model, IDS[:5], 1, module).logits[0]
    with torch.inference_mode(), steer(model, module):
        with pytest.raises(ValueError, match="max_new_tokens"):
            model.generate(TWO[:1], max_new_tokens=0, **GREEDY)
        got = model(input_ids=torch.tensor([IDS[:5]])).logits[0, -1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("more", [{"guidance_scale": 2.0}, {"guidance_scale": 2.0, "negative_prompt_ids": TWO[1:]}])
def test_guidance_runs_another_text_and_is_refused(model, module, more):
    with steer(model, module):
        refused("another text than its prompt", lambda: model.generate(TWO[:1], max_new_tokens=3, **more, **GREEDY))


def test_generate_from_a_cache_and_the_new_tokens_alone_is_refused(model, module):
    name = cache_argument(model)
    with torch.inference_mode():
        cache = model(input_ids=TWO[:1], use_cache=True)[name]
    whole = torch.ones((1, TWO.shape[1] + 3), dtype=torch.long)
    for more in ({"attention_mask": whole}, {}):
        with steer(model, module):
            call = functools.partial(model.generate, TWO[:1, :3], max_new_tokens=2, **{name: cache}, **more, **GREEDY)
            refused("part of the conversation only", call)


def test_several_texts_in_one_row_are_refused(model, module):
    with steer(model, module):
        refused(
            "several texts in one row",
            lambda: model(input_ids=TWO[:1, :6], position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]])),
        )
