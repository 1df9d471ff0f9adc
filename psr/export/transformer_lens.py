"""A module as hooks of TransformerLens: what psr.steer adds, where its bridge and its HookedTransformer let hooks act.

    blocks.{l}.hook_out           what block l returns, in TransformerBridge (TransformerLens 3 and 4)
    blocks.{l}.hook_resid_post    the same in HookedTransformer (until TransformerLens 3)
    blocks.{l}.attn.hook_pattern  [batch, head, token, token and those before it]: read only, for the tokens' positions

The bridge calls hook_out hook_resid_post too; in its compatibility mode a hook of that name would run twice. Nothing of
TransformerLens is imported: a hook is a function of an activation and the point where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.steering.hooks import starts_of
from psr.steering.live import Group, Live
from psr.steering.module import SteeringModule, check_model
from psr.steering.positions import Given
from psr.steering.terms import Steer, Term, terms_of, with_alphas

Hook = Callable[..., "Tensor | None"]
_WHERE = "hooks of TransformerLens"
_ROWS = 4096  # of the embedding that are looked at
_CENTRED = 0.01  # of what the mean over d random numbers comes to; rounding a centred row to bfloat16 leaves 0.001


def lens_hooks(
    model: Any, module: SteeringModule, start: int | Sequence[int], alpha: float | None = None
) -> list[tuple[str, Hook]]:
    """`module` as a list of (hook's name, function): `model.run_with_hooks(tokens, fwd_hooks=psr.lens_hooks(…))`.

    What they add is what `psr.steer` adds, by the same code; so is what comes out, within rounding. They also work in
    `with model.hooks(fwd_hooks=…):`, where `model.generate` may keep its cache or not.

    model: a TransformerBridge, or a HookedTransformer without processing (from_pretrained_no_processing). start: the column
    where the span begins, one for all rows or one for each: `encode_chat(lm.tokenizer, chat).start(module.span)`, plus the
    row's padding on the left. alpha: the strength; None: the module's recommended one.

    Give the model tokens: strings get a begin-of-text token of TransformerLens's own. A text is read from its beginning in
    one forward, then token by token, or anew. Raises PsrError for a module that does not fit the model, a model whose weights
    were centred, a bad alpha or start; and the hooks do for another number of rows, a text that ends in front of the span,
    and several tokens at once after a cache. The model's fingerprint is not compared: here its weights have other names.
    """
    ((_, strength),) = with_alphas(module, alpha)
    check_model(module, module.model, int(model.cfg.d_model), int(model.cfg.n_layers))
    _check_uncentred(model)
    first = torch.tensor(starts_of(start))
    hooks: list[tuple[str, Hook]] = []
    for layer, terms in terms_of([Steer(module, strength, 0)], torch.device("cpu")).items():
        one = _Layer(layer, terms, first)
        hooks += [(_point(model, layer, "attn.hook_pattern"), one.read), (_point(model, layer), one.add)]
    return hooks


@dataclass(eq=False)
class _Layer:
    """One layer's hooks. given: the tokens of the forward that runs, from where attention is computed to where the block ends."""

    layer: int
    terms: list[Term]
    start: Tensor
    given: Given | None = None

    def read(self, pattern: Tensor, hook: Any = None) -> None:
        """At the attention pattern [batch, head, token, key]: where the tokens are, since each key is a token so far."""
        if pattern.dim() != 4:
            raise _shape("blocks.*.attn.hook_pattern", "[batch, head, token, key]", pattern)
        batch, _, length, keys = pattern.shape
        self.given = Given(pattern.new_empty(batch, length, 0), keys - length, None)
        last = int(self.start.max())
        if length > 1 and keys > length:
            raise PsrError(
                "several tokens at once after others",
                where=_WHERE,
                expected="a text from its beginning in one forward, or one more token",
                got=f"{length} tokens after {keys - length}",
                do="Read the text anew without a cache, or steer with psr.steer.",
            )
        if keys <= last:
            raise PsrError(
                "the span begins behind the text",
                where=_WHERE,
                expected=f"more than {last} tokens at first, as start says",
                got=f"{keys} that attention sees",
                do="Give tokens and the start in them; a model that attends to fewer tokens is steered with psr.steer.",
            )

    def add(self, A: Tensor, hook: Any = None) -> Tensor:
        """At the block's output [batch, token, d]: A' (Eq. 7)."""
        given, self.given = self.given, None
        if given is None or A.shape[:2] != given.tokens.shape[:2]:
            raise _shape(
                "blocks.*", "[batch, token, d] of the tokens whose attention was seen just before, all the hooks set", A
            )
        device = A.device
        group = Group({self.layer: [term.to(device) for term in self.terms]}, self.start)
        group.find(given)
        return Live([group]).after(self.layer, A)


def _shape(where: str, expected: str, got: Tensor) -> PsrError:
    return PsrError("an activation of another shape", where=where, expected=expected, got=list(got.shape))


def _point(model: Any, layer: int, name: str | None = None) -> str:
    """The name of a hook point of block `layer`; None: of what the block returns."""
    names = [f"blocks.{layer}.{one}" for one in ([name] if name else ["hook_out", "hook_resid_post"])]
    for one in names:
        if one in model.hook_dict:
            return one
    raise PsrError(
        "this model has no such hook point",
        where=type(model).__name__,
        expected=" or ".join(names),
        got="none",
        do="Use a TransformerBridge or a HookedTransformer of a decoder with attention in every steered layer.",
    )


def _check_uncentred(model: Any) -> None:
    """Refuse a residual stream without its mean (center_writing_weights): a gate would read something else."""
    W = model.W_E[:_ROWS].detach().float()
    expected = W.pow(2).mean().sqrt() / W.shape[-1] ** 0.5
    if bool(W.mean(dim=-1).pow(2).mean().sqrt() < _CENTRED * expected):
        raise PsrError(
            "the residual stream of this model was centred, which changes what the module reads",
            where=type(model).__name__,
            expected="weights without processing",
            got="embeddings whose mean is 0",
            do="Load it with from_pretrained_no_processing, or enable_compatibility_mode(no_processing=True).",
        )
