"""Token strengths against gates computed by hand on recorded activations."""

import math

import pytest
import torch
from families import FAMILIES, family

from psr.errors import PsrError
from psr.lm.chats import Prompt
from psr.steering.module import SteeringModule
from psr.steering.strengths import token_strengths

PROMPT = Prompt((7, 30, 12, 99, 45, 8), 2)
ANSWER = (50, 61, 72, 83, 2)


def module_for(lm, layers=(0, 2), span="R", form="PSR"):
    generator = torch.Generator().manual_seed(1)
    tensors = {"z": torch.randn(len(layers), lm.d_model, generator=generator)}
    if form == "PSR":
        tensors["w"] = torch.randn(len(layers), lm.d_model, generator=generator) * 0.2
        tensors["b"] = torch.rand(len(layers), generator=generator) * 0.2
    return SteeringModule("m", form, tuple(layers), span, lm.fingerprint, tensors)


def by_hand(lm, module, alpha):
    """Each gate on what its block returns, steered one token at a time by hooks of its own."""
    found, handles = {}, []
    start = len(PROMPT.ids) - 1 if module.span == "R" else PROMPT.question

    def hook_for(i, layer):
        def hook(block, args, output):
            A = (output if torch.is_tensor(output) else output[0]).clone()
            lam = (A[0] @ module.tensors["w"][i] + module.tensors["b"][i]).clamp(min=0)
            found[layer] = lam[start:]
            for t in range(start, A.shape[1]):
                A[0, t] += alpha * lam[t] * module.tensors["z"][i]
            return A if torch.is_tensor(output) else (A, *output[1:])

        return hook

    for i, layer in enumerate(module.layers):
        handles.append(lm.blocks[layer].register_forward_hook(hook_for(i, layer)))
    try:
        with torch.no_grad():
            lm.model(input_ids=torch.tensor([[*PROMPT.ids, *ANSWER]]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([found[layer] for layer in module.layers])


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("span", ["R", "QR"])
def test_strengths_equal_gates_by_hand_on_activations_steered_below(name, span):
    lm = family(name)
    module = module_for(lm, span=span)
    for alpha in (0.0, 1.3):
        lam = token_strengths(lm, module, PROMPT, ANSWER, alpha)
        assert lam.shape == (2, len(ANSWER) + (1 if span == "R" else 4))
        torch.testing.assert_close(lam, by_hand(lm, module, alpha), rtol=1e-4, atol=1e-5)
        assert float(lam.max()) > 0


def test_alpha_moves_the_upper_gates_and_not_the_lowest():
    lm = family("llama")
    module = module_for(lm)
    without, steered = (token_strengths(lm, module, PROMPT, ANSWER, alpha) for alpha in (0.0, 2.0))
    assert torch.equal(without[0], steered[0])
    assert not torch.allclose(without[1], steered[1])


def test_a_constant_module_has_strength_one_everywhere():
    lm = family("gpt2")
    assert token_strengths(lm, module_for(lm, form="Const"), PROMPT, ANSWER, 0.7).tolist() == [[1.0] * 6] * 2


def test_what_does_not_fit_is_refused():
    lm = family("llama")
    with pytest.raises(PsrError, match="another model"):
        token_strengths(family("mistral"), module_for(lm), PROMPT, ANSWER, 1.0)
    with pytest.raises(PsrError, match="alpha is not a finite number"):
        token_strengths(lm, module_for(lm), PROMPT, ANSWER, math.nan)
    with pytest.raises(PsrError, match=f"at most {lm.context} tokens"):
        token_strengths(lm, module_for(lm), PROMPT, (5,) * lm.context, 1.0)
