"""Token strengths: how strongly a gate opens at each token of a given answer (λ of Eq. 8, the shades of Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.lm.chats import Prompt
from psr.lm.models import LanguageModel
from psr.lm.padding import pad
from psr.steering.forms import form_named
from psr.steering.hooks import Term, hooked
from psr.steering.module import SteeringModule, check_alpha, check_model


@torch.inference_mode()
def token_strengths(
    lm: LanguageModel, module: SteeringModule, prompt: Prompt, token_ids: Sequence[int], alpha: float
) -> Tensor:
    """λ at each position of the span while `prompt` + `token_ids` is read with the module at strength `alpha`.

    Returns [layer, position] fp32 on CPU: the module's layers in its order; positions from the span's first token to
    the last of `token_ids`. λ at a position acts on the residual stream of that token, and so on the token after it.
    Each gate reads activations that the layers below have already steered; α is not multiplied in. Constant modules
    give 1; of r gates the length of (λ_1 … λ_r) is given.
    Raises PsrError for a module of another model, a bad α, or more tokens than the context holds.

        >>> strengths = psr.token_strengths(lm, module, prompt, steered.token_ids, alpha=1.0)
        >>> strengths.shape == (lm.n_layers, len(prompt.ids) - prompt.question + len(steered.token_ids))
        True
    """
    check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    sequence = (*prompt.ids, *token_ids)
    if len(sequence) > lm.context:
        raise PsrError(
            "prompt and answer do not fit the model's context",
            expected=f"at most {lm.context} tokens",
            got=len(sequence),
        )
    start = prompt.start(module.span)
    strengths: dict[int, Tensor] = {}

    def keep(layer: int, lam: Tensor, mask: Tensor) -> None:
        one = lam if lam.dim() == 2 else lam.norm(dim=-1)
        strengths[layer] = one[0, start:].float().cpu()

    ids, attention = pad([sequence], lm.pad_id, device=lm.device)
    first = torch.tensor([start], dtype=torch.long, device=lm.device)
    with hooked(lm.model, _terms(lm, module, check_alpha(alpha)), first, keep):
        lm.base(input_ids=ids, attention_mask=attention, use_cache=False)
    return torch.stack([strengths[layer] for layer in module.layers])


def _terms(lm: LanguageModel, module: SteeringModule, alpha: float) -> dict[int, list[Term]]:
    form, strength = form_named(module.form), torch.tensor([alpha], device=lm.device)
    tensors = {name: values.to(lm.device) for name, values in module.tensors.items()}
    return {
        layer: [Term(form, {name: values[i : i + 1] for name, values in tensors.items()}, strength)]
        for i, layer in enumerate(module.layers)
    }
