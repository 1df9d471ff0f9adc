"""Steering as hooks on the decoder blocks: A' = A + α · λ(A) · z inside the span, row by row (Eq. 7).

Three doors, from the inside out:

    hooked(model, terms, start)     live parameters, gradients flow: what fitting uses
    steered(model, rows)            one Steer a row; rows may carry different modules and strengths: what generation uses
    steer(model, module, alpha)     the same module for every row of whatever the model is given: for use by hand

All of them change what the blocks return while the context is open and nothing else: hooks are removed on any exit.
A position t of a row is steered when t - (left padding of the row) >= start of the row. Nothing here reads a tensor's
value on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from psr.blocks import decoder_blocks
from psr.chats import encode_chat
from psr.errors import PsrError
from psr.forms import Form, form_named, steer_activation
from psr.module import SteeringModule, check_alpha, check_model
from psr.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OnStrength = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Term:
    """One form at one layer: params[name] [batch or 1, *shape] fp32, alpha [batch or 1] fp32 (0 = row untouched)."""

    form: Form
    params: Mapping[str, Tensor]
    alpha: Tensor


@dataclass(frozen=True, eq=False)
class Steer:
    """What happens to one row: its module (None: nothing), its strength, its first steered position (unpadded)."""

    module: SteeringModule | None
    alpha: float
    start: int

    @property
    def active(self) -> bool:
        return self.module is not None and self.alpha != 0


@dataclass(eq=False)
class Live:
    """The state of one open steering context. `start` None: from the last prompt token, found at each prefill."""

    terms: dict[int, list[Term]]
    start: Tensor | None
    on_strength: OnStrength | None = None
    padding: Tensor | None = None
    first: Tensor | None = None
    mask: Tensor = field(default_factory=lambda: torch.empty(0))
    entered: bool = False

    def enter(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the base model."""
        self.before(base, args, kwargs)
        self.entered = True

    def reach(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the module that holds the blocks, for models that go there past their base model (OPT)."""
        if not self.entered:
            self.before(owner, args, kwargs)
        self.entered = False

    def before(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find which positions of this forward lie in the span."""
        tokens = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs_embeds"))
        if tokens is None:
            tokens = kwargs["inputs_embeds"]
        cache = kwargs.get("past_key_values")
        past = 0 if cache is None else cache.get_seq_length()
        if self.first is None or not _continues(past):
            self._begin(tokens, kwargs.get("attention_mask"))
        position = torch.arange(tokens.shape[1], device=tokens.device) + past
        self.mask = (position >= self.first.unsqueeze(-1)).float()  # type: ignore[union-attr]

    def _begin(self, tokens: Tensor, attention: Any) -> None:
        """At a prefill: each row's left padding, and with it the first steered position counted in columns."""
        batch, length = tokens.shape[:2]
        if attention is None:
            padding = real = torch.zeros(batch, dtype=torch.long, device=tokens.device)
            real = real + length
        elif isinstance(attention, Tensor) and attention.dim() == 2:
            padding, real = (attention.cumsum(-1) == 0).sum(-1), attention.sum(-1)
        else:
            raise PsrError("steering needs a plain attention mask", expected="[batch, token] or none",
                           got=type(attention).__name__, do="Pass the tokenizer's attention_mask, and no static cache.")
        start = real - 1 if self.start is None else self.start.to(tokens.device)
        self.first = padding + start

    def after(self, layer: int, A: Tensor) -> Tensor:
        """A' of one block: every term added in turn to what the block returned."""
        for term in self.terms[layer]:
            lam = term.form.strength(A.float(), term.params)
            if self.on_strength is not None:
                self.on_strength(layer, lam, self.mask)
            A = steer_activation(A, term.alpha.unsqueeze(-1) * self.mask, lam, term.params["z"])
        return A

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only (indices [kept])."""
        self.terms = {layer: [_keep(term, rows) for term in terms] for layer, terms in self.terms.items()}
        self.first = None if self.first is None else self.first[rows]
        self.start = None if self.start is None else self.start[rows]


def _continues(past: Any) -> bool:
    """Whether a forward continues a cached one. `past` is a Python int with a dynamic cache."""
    return isinstance(past, Tensor) or past > 0


def _keep(term: Term, rows: Tensor) -> Term:
    def pick(values: Tensor) -> Tensor:
        return values if values.shape[0] == 1 else values[rows]

    return Term(term.form, {name: pick(values) for name, values in term.params.items()}, pick(term.alpha))


def _hook(live: Live, layer: int) -> Callable[..., Any]:
    """A forward hook for one block. Its own function, so that `layer` is bound now and not when it runs."""

    def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return live.after(layer, output)
        return (live.after(layer, output[0]), *output[1:])

    return hook


@contextmanager
def _open(model: nn.Module, live: Live) -> Iterator[Live]:
    blocks = decoder_blocks(model)
    base: nn.Module = getattr(model, "base_model", model)
    handles = []
    try:
        owner = next((module for module in base.modules() if any(child is blocks for child in module.children())), base)
        if owner is base:
            handles.append(base.register_forward_pre_hook(live.before, with_kwargs=True))
        else:
            handles.append(base.register_forward_pre_hook(live.enter, with_kwargs=True))
            handles.append(owner.register_forward_pre_hook(live.reach, with_kwargs=True))
        for layer in live.terms:
            handles.append(blocks[layer].register_forward_hook(_hook(live, layer)))
        yield live
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked(
    model: nn.Module, terms: Mapping[int, Sequence[Term]], start: Tensor, on_strength: OnStrength | None = None
) -> Iterator[Live]:
    """Steer with live parameters; gradients flow through them.

    terms: layer -> what is added there, in order. start: [batch] long, first steered position of each row counted
    in real tokens (left or right padding both work). on_strength(layer, lam [batch, token], mask [batch, token])
    sees every λ before it is used; mask is 1.0 inside the span (right padding is not masked).
    """
    with _open(model, Live({layer: list(at) for layer, at in terms.items()}, start, on_strength)) as live:
        yield live


@contextmanager
def steered(model: nn.Module, rows: Sequence[Steer]) -> Iterator[Live]:
    """Steer each row of the batch as its Steer says; with nothing to do no hook is set. Raises PsrError for a bad alpha."""
    for row in rows:
        check_alpha(row.alpha)
    device = next(model.parameters()).device
    start = torch.tensor([row.start for row in rows], dtype=torch.long, device=device)
    live = Live(terms_of(rows, device), start)
    if not live.terms:
        yield live
        return
    with _open(model, live):
        yield live


def terms_of(rows: Sequence[Steer], device: torch.device) -> dict[int, list[Term]]:
    """layer -> one Term per form in use there, its parameters gathered row by row; rows without it have alpha 0."""
    modules = list(dict.fromkeys(row.module for row in rows if row.module is not None and row.active))
    terms: dict[int, list[Term]] = {}
    for name in sorted({module.form for module in modules}):
        alike = [module for module in modules if module.form == name]
        for layer in sorted({layer for module in alike for layer in module.layers}):
            here = [module for module in alike if layer in module.layers]
            terms.setdefault(layer, []).append(_term(form_named(name), here, layer, rows, device))
    return terms


def _term(form: Form, modules: list[SteeringModule], layer: int, rows: Sequence[Steer], device: torch.device) -> Term:
    place = {module: at for at, module in enumerate(modules)}
    active = [row.active and row.module in place for row in rows]
    alpha = torch.tensor([row.alpha if on else 0.0 for row, on in zip(rows, active, strict=True)], device=device)
    index = [place[row.module] if on and row.module else 0 for row, on in zip(rows, active, strict=True)]
    pick = torch.tensor(index if len(modules) > 1 else [0], device=device)
    params = {
        name: torch.stack([module.tensors[name][module.layers.index(layer)] for module in modules]).to(device)[pick]
        for name in form.shapes(modules[0].d_model)
    }
    return Term(form, params, alpha)


@contextmanager
def steer(model: PreTrainedModel, module: SteeringModule, alpha: float = 1.0, tokenizer: Any = None) -> Iterator[Live]:
    """Steer everything the model is given, by hand: `with steer(model, module, 1.2): pipeline(...)`.

    Works with `model.generate`, pipelines and plain forwards, batches and left padding included; generation needs the
    key-value cache (the default). `tokenizer` is needed for modules on span QR, to know where the user turn begins, and
    lets the module refuse a model that it was not fitted on. Raises PsrError for a bad alpha or a model that does not fit.
    """
    alpha = check_alpha(alpha)
    blocks = decoder_blocks(model)
    if tokenizer is not None:
        from psr.fingerprint import fingerprint

        check_model(module, fingerprint(model, tokenizer), _width(model), len(blocks))
    else:
        check_model(module, module.model, _width(model), len(blocks))
    start = None
    device = next(model.parameters()).device
    if module.span == "QR":
        if tokenizer is None:
            raise PsrError("this module steers the question too and needs to know where it begins", where=module.id,
                           expected="tokenizer=…", got="none", do="Pass the model's tokenizer.")
        question = encode_chat(tokenizer, (Message("user", "?"),)).question
        start = torch.tensor([question], device=device)
    live = Live(terms_of([Steer(module, alpha, 0)], device), start)
    with _open(model, live):
        yield live


def _width(model: nn.Module) -> int:
    return int(model.get_input_embeddings().weight.shape[-1])  # type: ignore[operator,union-attr]
