"""Models that accelerate has put elsewhere: refused where weights are away, steered as any other where they are not."""

import copy

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from families import FAMILIES, tokenizer
from written import IDS, generated, greedy, strong_module

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import Prompt
from psr.lm.fingerprints import fingerprint
from psr.lm.models import wrap
from psr.steering.hooks import Steer, steer, steered

USING = tokenizer("system")
PLACES = {
    "model.embed_tokens": 0,
    "model.layers.0": 0,
    "model.layers.1": 1,
    "model.layers.2": 0,
    "model.norm": 0,
    "model.rotary_emb": 0,
    "lm_head": 0,
}


@pytest.fixture
def model():
    return copy.deepcopy(FAMILIES["llama"]())


def to_the_host(model, folder):
    return cpu_offload(model, execution_device="cpu")


def to_the_host_with_buffers(model, folder):
    return cpu_offload(model, execution_device="cpu", offload_buffers=True)


def to_the_disk(model, folder):
    disk_offload(model, str(folder), execution_device="cpu")
    return model


def one_layer_to_the_host(model, folder):
    cpu_offload(model.model.layers[1], execution_device="cpu")
    return model


def one_layer_to_the_disk(model, folder):
    places = {name: "disk" if away else "cpu" for name, away in PLACES.items()}
    return dispatch_model(model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)


AWAY = [to_the_host, to_the_host_with_buffers, to_the_disk, one_layer_to_the_host, one_layer_to_the_disk]


@pytest.mark.parametrize("send", AWAY, ids=lambda send: send.__name__)
def test_a_model_with_weights_elsewhere_is_refused_in_one_line(model, send, tmp_path):
    module = strong_module(fingerprint(model, USING))
    model = send(model, tmp_path)
    assert any(parameter.is_meta for parameter in model.parameters())
    for call in (
        lambda: fingerprint(model, USING),
        lambda: wrap(model, USING),
        lambda: steer(model, module, 1.0, USING).__enter__(),
        lambda: steer(model, module).__enter__(),
    ):
        with pytest.raises(PsrError, match="a weight of this model is not in memory") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert "weight" in str(caught.value)


def spread(model):
    return dispatch_model(model, dict.fromkeys(PLACES, "cpu"), main_device="cpu", force_hooks=True)


def whole(model):
    return dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)


@pytest.mark.parametrize("send", [spread, whole], ids=lambda send: send.__name__)
def test_a_dispatched_model_whose_weights_are_all_here_is_as_any_other(model, send):
    name = fingerprint(model, USING)
    module = strong_module(name)
    expected = greedy(model, IDS, 5, module)
    model = send(model)
    assert hasattr(model, "_hf_hook")
    lm = wrap(model, USING)
    assert lm.fingerprint == name
    with steer(model, module, 1.0, USING):
        generated(model, IDS, 5)[0].check(expected)
    (answer,) = generate(lm, [Request(Prompt(IDS, 2), 0, module, 1.0)], Sampling(5, 0.0))
    assert list(answer.token_ids) == expected.tokens[: len(answer.token_ids)]
    with torch.inference_mode(), steered(model, [Steer(module, 1.0, 7)]):
        said = model(input_ids=torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(said, expected.logits[0], rtol=1e-4, atol=2e-4)
