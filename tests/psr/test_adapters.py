"""Adapters of PEFT inside a model: they act, they count in its name, and switching them is noticed."""

import copy

import pytest
import torch
from families import FAMILIES, family, tokenizer
from peft import (
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
    inject_adapter_in_model,
)
from toy import example
from written import IDS, generated, greedy, logits, strong_module

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.fitting.loop import fit
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE
from psr.lm.chats import Prompt
from psr.lm.fingerprints import fingerprint
from psr.lm.models import wrap
from psr.steering.hooks import steer

USING = tokenizer("system")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing. is deprecated:FutureWarning"
)  # PEFT asks for it


def random_weights(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def config(r=4, alpha=8, targets=("q_proj", "down_proj"), **more):
    return LoraConfig(r=r, lora_alpha=alpha, target_modules=list(targets), task_type="CAUSAL_LM", **more)


def adapted(seed=0, **settings):
    return random_weights(get_peft_model(copy.deepcopy(FAMILIES["llama"]()), config(**settings)).eval(), seed)


def name(model):
    return fingerprint(model.get_base_model() if hasattr(model, "get_base_model") else model, USING)


def answer(model):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([IDS])).logits[0, -1]


def scaled(model, factor):
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(factor)


def two(model):
    """A second adapter beside the first, which acts."""
    model.add_adapter("second", config())
    for key, parameter in model.named_parameters():
        if "second" in key:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)) * 0.3
    return model


SWITCHES = {
    "off": lambda model: model.base_model.disable_adapter_layers(),
    "another scaling": lambda model: scaled(model, 3.0),
    "merged": lambda model: model.merge_adapter(),
    "the other adapter": lambda model: model.set_adapter("second"),
    "both adapters": lambda model: model.base_model.set_adapter(["default", "second"]),
}
switches = pytest.mark.parametrize("switch", SWITCHES)


@switches
def test_adapters_that_answer_otherwise_are_another_name(switch):
    model = two(adapted())
    before, said = name(model), answer(model)
    SWITCHES[switch](model)
    assert name(model) != before
    assert switch == "merged" or not torch.allclose(answer(model), said, atol=1e-3)
    assert name(model) == name(model)


def test_an_adapter_switched_off_and_on_again_has_its_name_again():
    model = adapted()
    before, plain = name(model), name(FAMILIES["llama"]())
    with model.disable_adapter():
        assert name(model) not in (before, plain)
        torch.testing.assert_close(answer(model), answer(FAMILIES["llama"]()))
    assert name(model) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"alpha": 16},
        {"r": 2},
        {"targets": ("q_proj",)},
        {"use_rslora": True},
        {"use_dora": True},
    ],
    ids=str,
)
def test_another_adapter_is_another_name(settings):
    assert name(adapted(**settings)) != name(adapted())
    assert not torch.allclose(answer(adapted(**settings)), answer(adapted()), atol=1e-4)
    assert name(adapted()) == name(adapted())


def test_a_merged_and_unloaded_adapter_leaves_a_plain_model_of_its_own():
    model, plain = adapted(), FAMILIES["llama"]()
    said = answer(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(answer(merged), said, rtol=1e-4, atol=1e-4)
    same = copy.deepcopy(plain)
    same.load_state_dict(merged.state_dict())
    assert name(merged) == name(same) != name(plain)


def test_adapters_that_were_put_into_a_plain_model_count_too():
    model = random_weights(inject_adapter_in_model(config(), copy.deepcopy(FAMILIES["llama"]())), 0).eval()
    lm, acting = wrap(model, USING), [module for module in model.modules() if hasattr(module, "lora_A")]
    assert lm.fingerprint == name(model) != name(FAMILIES["llama"]())
    for module in acting:
        module.enable_adapters(False)
    assert name(model) != lm.fingerprint
    with pytest.raises(PsrError, match="adapters of this model were switched"):
        lm.check_adapters()


@pytest.mark.parametrize("acting", [True, False])
def test_a_model_of_peft_is_steered_as_by_hand_with_its_adapter_acting_or_not(acting):
    model = adapted()
    if not acting:
        model.base_model.disable_adapter_layers()
    lm = wrap(model, USING)
    assert lm.model is model.get_base_model()
    assert lm.fingerprint == name(model)
    module = strong_module(lm.fingerprint)
    plain, expected = answer(model), greedy(lm.model, IDS, 5, module)
    assert (
        torch.allclose(expected.logits[0], greedy(FAMILIES["llama"](), IDS, 1, module).logits[0], atol=1e-3) != acting
    )
    for given in (model, lm.model):
        with steer(given, module, 1.0, USING):
            generated(lm.model, IDS, 5)[0].check(expected)
            with torch.inference_mode():  # PEFT's own generate takes no ids by place
                out = model.generate(
                    input_ids=torch.tensor([IDS]), max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None
                )
            assert out[0, len(IDS) :].tolist() == expected.tokens
            torch.testing.assert_close(answer(model), expected.logits[0], rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(answer(model), plain)
    (told,) = generate(lm, [Request(Prompt(IDS, 2), 0, module, 1.0)], Sampling(5, 0.0))
    assert list(told.token_ids) == expected.tokens[: len(told.token_ids)]


def test_an_adapter_switched_while_it_is_steered_acts_from_then_on():
    model = adapted()
    inner = model.get_base_model()
    module = strong_module(name(model))
    with steer(model, module), model.disable_adapter():
        got = answer(model)
    with model.disable_adapter():
        expected = logits(inner, IDS, module, [7])[-1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig, PromptEncoderConfig])
def test_learned_tokens_in_front_of_the_prompt_are_refused(kind):
    model = get_peft_model(copy.deepcopy(FAMILIES["llama"]()), kind(task_type="CAUSAL_LM", num_virtual_tokens=3))
    for call in (lambda: wrap(model, USING), lambda: steer(model, strong_module("any")).__enter__()):
        with pytest.raises(PsrError, match="learned tokens in front of the prompt") as caught:
            call()
        assert kind.__name__ in str(caught.value)


@switches
def test_a_switch_after_wrapping_is_refused_where_the_name_counts(switch):
    model = two(adapted())
    lm = wrap(model, USING)
    module, settings = strong_module(lm.fingerprint), Sampling(2, 0.0)
    ask = [Request(Prompt(IDS, 2), 0, module, 1.0)]
    generate(lm, ask, settings)
    SWITCHES[switch](model)
    for call in (
        lambda: generate(lm, ask, settings),
        lambda: fit(
            lm, [example([1, 2, 3], [4, 5])], parse_method("a-const-mse-r"), (0, 1, 2), FAST_MSE, module_id="m"
        ),
    ):
        with pytest.raises(PsrError, match="adapters of this model were switched after it was wrapped") as caught:
            call()
        assert "\n" not in str(caught.value)
    again = wrap(model, USING)
    assert again.fingerprint != module.model
    with pytest.raises(PsrError, match="fitted on another model"):
        generate(again, ask, settings)
    with pytest.raises(PsrError, match="fitted on another model"):
        steer(model, module, 1.0, USING).__enter__()


def test_a_switch_that_is_taken_back_is_forgiven():
    model = adapted()
    lm = wrap(model, USING)
    with model.disable_adapter(), pytest.raises(PsrError):
        lm.check_adapters()
    lm.check_adapters()
    assert lm.fingerprint == name(model)


def test_models_without_adapters_are_never_called_switched():
    family("llama").check_adapters()
