"""Models of text and images are loaded as what saved them, and the language model inside is steered as by hand."""

import pytest
import torch
from families import VOCABULARY, tokenizer
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText
from transformers.utils import logging
from written import GREEDY, IDS, generated, greedy, strong_module, written

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.lm.blocks import decoder_blocks
from psr.lm.chats import Prompt, encode_chat
from psr.lm.loading import load_model
from psr.steering.hooks import Steer, steer, steered
from psr.types import Message

IMAGE, NEW = 290, 4
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EYES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_LARGER_EYES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2}
_CLIP = {**_EYES, "image_size": 28, "patch_size": 14, "model_type": "clip_vision_model"}
CONFIGS = {
    "qwen2_5_vl": {
        "text_config": {**_TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        "vision_config": {
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        "image_token_id": IMAGE,
        "video_token_id": 291,
        "vision_start_token_id": 292,
        "vision_end_token_id": 293,
    },
    "llava": {"text_config": {**_TEXT, "model_type": "llama"}, "vision_config": _CLIP, "image_token_index": IMAGE},
    "gemma3": {
        "text_config": {
            **_TEXT,
            "head_dim": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "vision_config": {**_LARGER_EYES, "image_size": 28, "patch_size": 14},
        "image_token_index": IMAGE,
        "mm_tokens_per_image": 4,
        "boi_token_index": 291,
        "eoi_token_index": 292,
    },
}
kinds = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Each kind saved and loaded again, by name."""
    logging.disable_progress_bar()
    made = {}
    for kind, settings in CONFIGS.items():
        folder = tmp_path_factory.mktemp(kind)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[kind](**settings))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape) * 0.1)
        model.save_pretrained(folder)
        tokenizer("system").save_pretrained(folder)
        made[kind] = load_model(folder)
        assert type(made[kind].model) is type(model)
        assert all(torch.equal(made[kind].model.state_dict()[key], value) for key, value in model.state_dict().items())
    logging.enable_progress_bar()
    return made


@kinds
def test_what_is_known_of_it_is_known_of_its_language_model(loaded, kind):
    lm = loaded[kind]
    assert (lm.n_layers, lm.d_model, lm.context) == (3, 32, 128)
    assert lm.blocks is lm.model.model.language_model.layers
    assert lm.stop_ids[-1] == 2
    assert len(lm.fingerprint) == 21


@kinds
@pytest.mark.parametrize("span", ["R", "QR"])
def test_text_is_steered_as_by_hand(loaded, kind, span):
    lm = loaded[kind]
    module = strong_module(lm.fingerprint, span, "Const")
    prompt = encode_chat(lm.tokenizer, (Message("system", "In verse."), Message("user", "why?")))
    expected = greedy(lm.model, prompt.ids, NEW, module, prompt.start(span))
    plain = generated(lm.model, prompt.ids, NEW)[0]
    assert not torch.allclose(plain.logits[0], expected.logits[0], atol=0.01)
    with steer(lm.model, module, 1.0, lm.tokenizer):
        generated(lm.model, prompt.ids, NEW)[0].check(expected)
        generated(lm.model, prompt.ids, NEW, prefill_chunk_size=3)[0].check(expected)
    (answer,) = generate(lm, [Request(prompt, 0, module, 1.0)], Sampling(NEW, 0.0))
    assert list(answer.token_ids) == expected.tokens[: len(answer.token_ids)]
    generated(lm.model, prompt.ids, NEW)[0].check(plain)


@kinds
def test_prompts_of_different_lengths_are_steered_each_as_if_alone(loaded, kind):
    lm = loaded[kind]
    module = strong_module(lm.fingerprint, form="Const")
    prompts = [Prompt(IDS, 2), Prompt(IDS[:4], 1)]
    answers = generate(lm, [Request(prompt, 0, module, 1.0) for prompt in prompts], Sampling(NEW, 0.0))
    for answer, prompt in zip(answers, prompts, strict=True):
        expected = greedy(lm.model, prompt.ids, NEW, module).tokens
        assert list(answer.token_ids) == expected[: len(answer.token_ids)]


def test_a_prompt_with_an_image_is_steered_as_by_hand(loaded):
    model = loaded["llava"].model
    module = strong_module(loaded["llava"].fingerprint, form="Const")
    ids, pixels = torch.tensor([[5, 40, *[IMAGE] * 4, 61, 8]]), torch.linspace(-1, 1, 3 * 28 * 28).view(1, 3, 28, 28)
    settings = {"pixel_values": pixels, "max_new_tokens": NEW, **GREEDY}
    with torch.inference_mode():
        plain = model.generate(ids, **settings)
        with written(model, module, [range(7, 64)]):
            expected = model.generate(ids, use_cache=False, **settings)
        with steer(model, module):
            got = model.generate(ids, **settings)
            once = model(input_ids=ids, pixel_values=pixels).logits
        with steered(model, [Steer(module, 1.0, 7)]):
            assert torch.equal(model.generate(ids, **settings), expected)
        with written(model, module, [[7]]):
            torch.testing.assert_close(once, model(input_ids=ids, pixel_values=pixels).logits, rtol=1e-4, atol=2e-4)
    assert torch.equal(got, expected)
    assert not torch.equal(got, plain)


@kinds
def test_the_towers_that_see_are_left_alone(loaded, kind):
    lm = loaded[kind]
    seeing = {id(block) for name, block in lm.model.named_modules() if "vision" in name or "visual" in name}
    assert seeing
    assert not seeing & {id(block) for block in decoder_blocks(lm.model)}
