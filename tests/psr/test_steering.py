"""Steering changes exactly what it says, on every family, and nothing afterwards."""

import copy
import dataclasses

import pytest
import torch
from families import D_MODEL, FAMILIES, LAYERS, family, tokenizer

from psr.errors import PsrError
from psr.lm.blocks import decoder_blocks
from psr.lm.cached import cache_argument
from psr.lm.chats import encode_chat
from psr.lm.recording import recorded
from psr.steering.forms import FORMS, PSR, form_named, init_params, steer_activation
from psr.steering.hooks import Steer, Term, hooked, steer, steered
from psr.steering.module import SteeringModule
from psr.types import Message

IDS = torch.tensor([[5, 40, 61, 90, 33, 12, 77, 8], [9, 21, 35, 66, 54, 18, 70, 25]])
START = 4
families = pytest.mark.parametrize("name", list(FAMILIES))


def module(
    name: str, form: str = "PSR", layers: tuple[int, ...] = tuple(range(LAYERS)), seed: int = 0, span: str = "R"
):
    params = init_params(form_named(form), len(layers), D_MODEL, torch.Generator().manual_seed(seed))
    return SteeringModule(f"{form}-{layers}-{seed}", form, layers, span, family(name).fingerprint, params)


def streams(model, ids=IDS, attention=None):
    """[layer, batch, token, d]: what the blocks return, and the logits."""
    with torch.inference_mode(), recorded(model, range(LAYERS)) as A:
        logits = model(input_ids=ids, attention_mask=attention).logits
        return torch.stack([A[layer] for layer in range(LAYERS)]), logits


def rows(*modules, alpha=1.0, start=START):
    return [Steer(m, alpha, start) for m in modules]


@families
@pytest.mark.parametrize("form", list(FORMS))
def test_alpha_zero_is_bit_exact(name, form):
    model, m = FAMILIES[name](), module(name, form)
    A, logits = streams(model)
    zero = torch.zeros(2)
    terms = {
        layer: [Term(FORMS[form], {k: v[layer : layer + 1] for k, v in m.tensors.items()}, zero)] for layer in m.layers
    }
    with steered(model, rows(m, m, alpha=0.0)):
        without_hooks = streams(model)
    with hooked(model, terms, torch.tensor([START, START])):
        with_hooks = streams(model)
    for again in (without_hooks, with_hooks):
        assert torch.equal(again[0], A)
        assert torch.equal(again[1], logits)


@families
@pytest.mark.parametrize("layer", [0, LAYERS - 1])
def test_alpha_one_with_a_set_z_shifts_exactly_the_span_and_nothing_else(name, layer):
    model = FAMILIES[name]()
    z = torch.linspace(-1, 1, D_MODEL).unsqueeze(0)
    m = SteeringModule("set", "Const", (layer,), "R", family(name).fingerprint, {"z": z})
    A, _ = streams(model)
    with steered(model, rows(m, m)):
        B, _ = streams(model)
    assert torch.equal(B[:layer], A[:layer])
    assert torch.equal(B[layer, :, :START], A[layer, :, :START])
    assert torch.equal(B[layer, :, START:], A[layer, :, START:] + z)
    # causal: nothing before the span ever changes (but for rounding where experts group tokens by what they are)
    torch.testing.assert_close(B[:, :, :START], A[:, :, :START], rtol=1e-5, atol=1e-5)


@families
def test_a_gated_module_adds_alpha_lambda_z_as_written_out_by_hand(name):
    model, m, alpha = FAMILIES[name](), module(name, layers=(1,)), 1.7
    A, _ = streams(model)
    with steered(model, rows(m, None, alpha=alpha)):
        B, _ = streams(model)
    w, b, z = (m.tensors[key][0] for key in "wbz")
    for token in range(START, IDS.shape[1]):
        a = A[1, 0, token]
        lam = max(float((a * w).sum() + b), 0.0)
        torch.testing.assert_close(B[1, 0, token], a + alpha * lam * z)
    torch.testing.assert_close(B[:, 1], A[:, 1], rtol=0, atol=0)


@families
def test_every_gate_reads_what_the_layers_below_have_changed(name):
    model, m = FAMILIES[name](), module(name)
    seen = {}
    terms = {
        layer: [Term(PSR, {k: v[layer : layer + 1] for k, v in m.tensors.items()}, torch.ones(1))] for layer in m.layers
    }
    with hooked(model, terms, torch.tensor([START, START]), lambda layer, lam, mask: seen.update({layer: lam})):
        B, _ = streams(model)
    lower = SteeringModule("lower", "PSR", m.layers[:-1], "R", m.model, {k: v[:-1] for k, v in m.tensors.items()})
    with steered(model, rows(lower, lower)):
        C, _ = streams(model)  # only the layers below are steered: what the last gate must have read
    torch.testing.assert_close(B[LAYERS - 2], C[LAYERS - 2])
    expected = PSR.strength(C[LAYERS - 1], {k: v[LAYERS - 1 :] for k, v in m.tensors.items()})
    torch.testing.assert_close(seen[LAYERS - 1], expected)


@families
def test_left_padding_changes_nothing(name):
    model, m = FAMILIES[name](), module(name)
    pad = 3
    ids = torch.cat([torch.zeros(2, pad, dtype=torch.long), IDS], dim=1)
    attention = torch.ones_like(ids)
    attention[:, :pad] = 0
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode(), steered(model, rows(m, m)):
        plain = model(input_ids=IDS).logits
        extra = {"position_ids": positions} if name != "opt" else {}
        padded = model(input_ids=ids, attention_mask=attention, **extra).logits[:, pad:]
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4)


@families
def test_cached_is_uncached(name):
    model, m = FAMILIES[name](), module(name)
    with torch.inference_mode(), steered(model, rows(m, m)):
        whole = model(input_ids=IDS).logits
    with torch.inference_mode(), steered(model, rows(m, m)):
        first = model(input_ids=IDS[:, :5], use_cache=True)
        name = cache_argument(model)
        steps, cache = [first.logits], first[name]
        for token in range(5, IDS.shape[1]):
            steps.append(model(input_ids=IDS[:, token : token + 1], use_cache=True, **{name: cache}).logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-4)


@families
def test_rows_of_one_batch_are_each_as_if_alone(name):
    model = FAMILIES[name]()
    plans = [Steer(module(name, seed=1), 1.3, 3), Steer(module(name, "Const", (1,), seed=2), 0.7, 5)]
    with steered(model, plans):
        together, _ = streams(model)
    for row, plan in enumerate(plans):
        with steered(model, [plan]):
            alone, _ = streams(model, IDS[row : row + 1])
        torch.testing.assert_close(together[:, row], alone[:, 0], rtol=1e-5, atol=1e-5)


@families
def test_hooks_are_gone_after_an_exception(name):
    model, m = FAMILIES[name](), module(name)
    _, before = streams(model)
    hooks = [len(block._forward_hooks) for block in decoder_blocks(model)]  # transformers may keep some of its own
    with pytest.raises(RuntimeError, match="stop"), steered(model, rows(m, m)):
        raise RuntimeError("stop")
    with pytest.raises(RuntimeError, match="halt"), steer(model, m):
        raise RuntimeError("halt")
    assert torch.equal(streams(model)[1], before)
    assert [len(block._forward_hooks) for block in decoder_blocks(model)] == hooks
    assert not model.base_model._forward_pre_hooks


def test_two_modules_that_share_an_id_are_not_mixed_up():
    model = FAMILIES["llama"]()
    one, other = (dataclasses.replace(module("llama", seed=seed), id="same") for seed in (1, 2))
    with steered(model, rows(one, other)):
        together, _ = streams(model)
    with steered(model, rows(other)):
        alone, _ = streams(model, IDS[1:])
    torch.testing.assert_close(together[:, 1], alone[:, 0], rtol=1e-5, atol=1e-5)


def test_a_block_that_returns_a_tuple_is_steered_as_one_that_returns_a_tensor():
    model, m = copy.deepcopy(FAMILIES["llama"]()), module("llama")
    with steered(model, rows(m, m)):
        expected = streams(model)[1]
    block_type = type(decoder_blocks(model)[0])

    class Tupled(block_type):
        """As older versions of the library: (activations, more)."""

        def forward(self, *args, **kwargs):
            return (super().forward(*args, **kwargs), "more")

    handles = []
    for block in decoder_blocks(model):
        block.__class__ = Tupled
    with steered(model, rows(m, m)):
        for block in decoder_blocks(model):  # the model of today wants a tensor back: unwrap after steering
            handles.append(block.register_forward_hook(lambda _, __, output: output[0]))
        got = streams(model)[1]
    assert torch.equal(got, expected)


def test_a_steered_tuple_keeps_its_other_entries():
    from psr.steering.live import Live, _hook

    A = torch.randn(1, 2, D_MODEL)
    live = Live([])
    out = _hook(live, 0)(torch.nn.Identity(), (), (A, "cache", 3))
    assert torch.equal(out[0], A)
    assert out[1:] == ("cache", 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_stay_fp32_and_activations_keep_the_models_dtype(dtype):
    A = torch.randn(2, 3, D_MODEL).to(dtype)
    p = {k: v[:1] for k, v in init_params(PSR, 1, D_MODEL, torch.Generator().manual_seed(0)).items()}
    lam = PSR.strength(A.float(), p)
    assert lam.dtype == torch.float32
    assert steer_activation(A, torch.ones(2, 3), lam, p["z"]).dtype == dtype


def test_by_hand_is_as_by_row_with_generate_and_left_padding():
    lm = family("llama")
    m = module("llama", "PSR")
    prompts = [
        encode_chat(lm.tokenizer, (Message("user", text),)).ids for text in ("the sky", "why is the sun in the sky?")
    ]
    width = max(map(len, prompts))
    ids = torch.tensor([(lm.pad_id,) * (width - len(p)) + p for p in prompts])
    attention = torch.tensor([(0,) * (width - len(p)) + (1,) * len(p) for p in prompts])
    told = {"attention_mask": attention, "max_new_tokens": 6, "do_sample": False, "pad_token_id": lm.pad_id}
    with torch.inference_mode():
        with steer(lm.model, m, 2.0):
            by_hand = lm.model.generate(ids, **told)
        with steered(lm.model, [Steer(m, 2.0, len(p) - 1) for p in prompts]):
            by_row = lm.model.generate(ids, **told)
    assert torch.equal(by_hand, by_row)


def test_by_hand_on_the_question_too_begins_where_the_user_turn_does():
    lm = family("qwen3")
    m = module("qwen3", span="QR")
    prompt = encode_chat(lm.tokenizer, (Message("user", "why is the sky?"),))
    ids = torch.tensor([prompt.ids])
    with steer(lm.model, m, 1.0, lm.tokenizer):
        by_hand, _ = streams(lm.model, ids)
    with steered(lm.model, [Steer(m, 1.0, prompt.question)]):
        by_row, _ = streams(lm.model, ids)
    assert torch.equal(by_hand, by_row)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf")])
def test_an_alpha_that_is_no_number_is_refused(alpha):
    m = module("llama")
    with (
        pytest.raises(PsrError, match="alpha is not a finite number"),
        steered(FAMILIES["llama"](), rows(m, alpha=alpha)),
    ):
        pass
    with pytest.raises(PsrError, match="alpha is not a finite number"), steer(FAMILIES["llama"](), m, alpha):
        pass


def test_a_module_of_another_model_is_refused_with_the_reason():
    m = module("llama")
    with (
        pytest.raises(PsrError, match="fitted on another model or tokenizer"),
        steer(FAMILIES["mistral"](), m, 1.0, tokenizer("system")),
    ):
        pass


def test_a_module_on_the_question_needs_the_tokenizer_by_hand():
    m = module("llama", span="QR")
    with pytest.raises(PsrError, match="needs to know where it begins"), steer(FAMILIES["llama"](), m):
        pass
