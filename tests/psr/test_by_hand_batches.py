"""Rows of one batch that steering by hand meets: padded, at turns of different lengths, repeated as beams."""

import pytest
import torch
from families import tokenizer
from written import GREEDY, IDS, generated, greedy, left_padded, logits, strong_module, written

from psr.lm.cached import cache_argument
from psr.lm.chats import encode_chat
from psr.lm.models import wrap
from psr.steering.hooks import steer
from psr.types import Message

NEW = 6
SHORT = IDS[2:5]


def test_turns_of_different_lengths_in_one_batch_are_each_as_if_alone(model, module):
    """Padding on the left, on the right, and in front of the second turn."""
    first, mask = torch.tensor([[5, 40, 61, 0], [0, 12, 77, 8]]), [[1, 1, 1, 0], [0, 1, 1, 1]]
    second, more = torch.tensor([[0, 9, 21], [35, 66, 54]]), [[0, 1, 1], [1, 1, 1]]
    attention, told = torch.tensor([a + b for a, b in zip(mask, more, strict=True)]), {"use_cache": True}
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode(), steer(model, module):
        one = model(input_ids=first, attention_mask=attention[:, :4], position_ids=positions[:, :4], **told)
        told[cache_argument(model)] = one[cache_argument(model)]
        other = model(input_ids=second, attention_mask=attention, position_ids=positions[:, 4:], **told)
    said = torch.cat([one.logits, other.logits], dim=1)
    for row, (ids, last) in enumerate([([5, 40, 61, 9, 21], (2, 4)), ([12, 77, 8, 35, 66, 54], (2, 5))]):
        torch.testing.assert_close(
            said[row, attention[row].bool()], logits(model, ids, module, last), rtol=1e-4, atol=2e-4
        )


@pytest.mark.parametrize("masked", [True, False])
def test_each_row_of_a_left_padded_batch_is_as_if_alone(model, module, masked):
    rows = [SHORT, IDS, IDS[:6]]
    ids, attention = left_padded(rows)
    with steer(model, module):  # without a mask generate makes one from the padding tokens
        got = generated(model, ids, NEW, **({"attention_mask": attention} if masked else {}))
    for one, row in zip(got, rows, strict=True):
        one.check(greedy(model, row, NEW, module))


@pytest.mark.parametrize(
    "told",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": True, "num_beams": 2},
        {"do_sample": True, "top_k": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("span", ["R", "QR"])
def test_beams_and_samples_are_as_without_a_cache(lm, model, told, span):
    module, texts = strong_module(lm.fingerprint, span), ("why?", "the sun in the sky?")
    prompts = [encode_chat(lm.tokenizer, (Message("user", text),)) for text in texts]
    ids, attention = left_padded([prompt.ids for prompt in prompts])
    columns = [range(ids.shape[1] - len(prompt.ids) + prompt.start(span), 64) for prompt in prompts]
    settings = {**GREEDY, "max_new_tokens": NEW, "attention_mask": attention, **told}
    with torch.inference_mode():
        with steer(model, module, 1.0, lm.tokenizer) as live:
            torch.manual_seed(3)
            got = model.generate(ids, **settings)
            first = live.groups[0].first
            times = len(first) // len(ids)
            assert first.tolist() == [column.start for column in columns for _ in range(times)]
        with written(model, module, columns):
            torch.manual_seed(3)
            expected = model.generate(ids, use_cache=False, **settings)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("masked", [True, False])
def test_in_a_batch_the_user_turn_is_found_behind_the_padding(model, masked):
    using = tokenizer("brackets")
    chats = ((Message("user", "why?"),), (Message("system", "Be brief."), Message("user", "the sun in the sky?")))
    prompts = [encode_chat(using, chat) for chat in chats]
    module = strong_module(wrap(model, using).fingerprint, "QR")
    ids, attention = left_padded([prompt.ids for prompt in prompts])
    with steer(model, module, 1.0, using):
        got = generated(model, ids, NEW, **({"attention_mask": attention} if masked else {}))
    for one, prompt in zip(got, prompts, strict=True):
        one.check(greedy(model, prompt.ids, NEW, module, prompt.question))
