import pytest
import torch
from families import FAMILIES, LAYERS
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_return_what_the_model_itself_reports_as_hidden_states(name):
    model, seen = FAMILIES[name](), {}
    handles = [
        block.register_forward_hook(
            lambda _, __, out, at=at: seen.update({at: out if isinstance(out, torch.Tensor) else out[0]})
        )
        for at, block in enumerate(decoder_blocks(model))
    ]
    try:
        with torch.no_grad():
            states = model(torch.arange(5, 17)[None], output_hidden_states=True).hidden_states
    finally:
        for handle in handles:
            handle.remove()
    assert sorted(seen) == list(range(LAYERS))
    for layer in range(LAYERS - 1):  # the last reported state is after the final norm
        torch.testing.assert_close(seen[layer], states[layer + 1], rtol=0, atol=0)
    assert not torch.equal(seen[LAYERS - 1], states[LAYERS])


def test_a_larger_vision_tower_of_equal_depth_is_not_taken_for_the_decoder():
    text = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    text |= {"num_key_value_heads": 1, "intermediate_size": 16}
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision |= {"image_size": 28, "patch_size": 14}
    tokens = {"image_token_index": 89, "boi_token_index": 88, "eoi_token_index": 87}
    config = Gemma3Config(text_config=text, vision_config=vision, **tokens)
    model = Gemma3ForConditionalGeneration(config)
    assert decoder_blocks(model) is model.model.language_model.layers


def test_a_family_that_no_test_here_is_built_for_is_found_too():
    model = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=4, n_head=2))
    assert decoder_blocks(model) is model.transformer.h


class _Odd(nn.Module):
    def __init__(self, *lists: nn.ModuleList, layers: int) -> None:
        super().__init__()
        self.lists = nn.ModuleDict({str(at): one for at, one in enumerate(lists)})
        self.config = type("Config", (), {"num_hidden_layers": layers})()


def _list(entries: int, width: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, width) for _ in range(entries))


def test_the_heaviest_list_of_the_right_length_wins():
    small, large = _list(3, 2), _list(3, 8)
    assert decoder_blocks(_Odd(small, large, layers=3)) is large


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), _Odd(_list(4, 8), layers=3), _Odd(_list(3, 2), _list(4, 8), layers=3)]
)
def test_a_model_without_decoder_blocks_is_refused_in_one_line(model):
    with pytest.raises(PsrError, match="found no decoder blocks in this model") as caught:
        decoder_blocks(model)
    assert "\n" not in str(caught.value)
