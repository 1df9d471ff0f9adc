"""What acted at each token of an answer: λ of the module, and the length of the prompt's own effect there.

λ[l,i]        as the steered model reads x y'                      psr/steering/strengths.py
‖Δ_acc[l,i]‖  = ‖A[l,i | x' y'] − A[l,i | x y']‖                   Eq. 3, psr/evaluation/delta.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from psr.lm.alignment import align
from psr.lm.chats import Prompt, encode_chat
from psr.lm.pieces import pieces
from psr.lm.recording import record
from psr.show.answer import ShownAnswer
from psr.steering.strengths import token_strengths
from psr.types import Message, PromptPair

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule


def show_answer(
    lm: LanguageModel,
    module: SteeringModule,
    question: str,
    token_ids: Sequence[int],
    alpha: float | None = None,
    *,
    instruction: str | None = None,
) -> ShownAnswer:
    """The answer with λ at each of its tokens, which shows itself in a notebook.

    question: what was asked; token_ids: the answer as sampled (`Answer.token_ids`). alpha: the strength it was steered at; None:
    the recommended one. instruction: also measure the effect of this prompt at the same tokens, ‖Δ_acc‖ at the module's layers.
    Raises PsrError as `token_strengths` and `align` do: a module of another model, a bad α, more tokens than the context
    holds, an instruction that leaves no trace.

        >>> shown = psr.show_answer(lm, module, "Tell me about trains.", steered.token_ids, instruction="Talk like a pirate.")
        >>> shown.tokens[-shown.answered :][:3]
        (' Arr', ',', ' matey')
        >>> "<svg" in shown._repr_html_()
        True
    """
    strength = module.recommended_alpha if alpha is None else alpha
    prompt = encode_chat(lm.tokenizer, (Message("user", question),), context=lm.context)
    lam = token_strengths(lm, module, prompt, token_ids, strength)
    texts = pieces(lm.tokenizer, (*prompt.ids, *token_ids))
    delta = None if instruction is None else _effect(lm, module, prompt, question, instruction, token_ids)
    return ShownAnswer(
        tokens=tuple(texts[prompt.start(module.span) :]),
        answered=len(token_ids),
        layers=module.layers,
        strengths=_rows(lam),
        delta=None if delta is None else _rows(delta),
        title=f"{module.id}, α {strength:g}",
    )


def _effect(
    lm: LanguageModel,
    module: SteeringModule,
    prompt: Prompt,
    question: str,
    instruction: str,
    token_ids: Sequence[int],
) -> Tensor:
    """‖Δ_acc‖ [layer, position], at the layers and positions of the module's strengths."""
    pair = PromptPair("", question, instruction)
    tokens = align(lm.tokenizer, pair, token_ids, module.span)
    sides = ((tokens.instructed_ids, tokens.instructed_start), (tokens.plain_ids, tokens.plain_start))
    with_it, without = (record(lm, [ids], [start], module.layers, span=module.span).values for ids, start in sides)
    return (with_it - without).norm(dim=-1)


def _rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
