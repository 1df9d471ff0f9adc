"""Steering written out by hand, for comparison with the library: full texts, no cache, explicit columns.

strong_module(...)            a module with a strong effect
written(model, ...)           while open, the blocks add Eq. 7's term at these columns
greedy(model, ids, n, ...)    n new tokens, each from a forward of the whole text; generated: by model.generate
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from psr.lm.blocks import decoder_blocks
from psr.steering.forms import form_named, init_params
from psr.steering.module import SteeringModule

IDS = (5, 40, 61, 90, 33, 12, 77, 8)
GREEDY = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}  # for model.generate


def strong_module(
    fingerprint: str, span: str = "R", form: str = "PSR", layers: Sequence[int] = (0, 1, 2), seed: int = 0, d: int = 32
) -> SteeringModule:
    params = init_params(form_named(form), len(layers), d, torch.Generator().manual_seed(seed))
    strong = {name: 8 * values for name, values in params.items()}
    if "b" in strong:
        strong["b"] = strong["b"].abs() + 1  # the gates open
    return SteeringModule(f"strong-{form}-{seed}", form, tuple(layers), span, fingerprint, strong)


def _added(module: SteeringModule, layer: int, A: Tensor) -> Tensor:
    p = {name: values[module.layers.index(layer)] for name, values in module.tensors.items()}
    lam = torch.relu(A.float() @ p["w"] + p["b"]).unsqueeze(-1) if module.form == "PSR" else torch.ones(1)
    return (lam * p["z"]).to(A.dtype)


@contextmanager
def written(
    model: nn.Module, module: SteeringModule, columns: Sequence[Iterable[int]], alpha: float = 1.0
) -> Iterator[None]:
    """columns[row]: what is steered in each row of whole texts; the rows are repeated as beams repeat them."""

    def hook_for(layer: int) -> Callable[..., object]:
        def hook(block: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> object:
            A = (output if isinstance(output, Tensor) else output[0]).clone()
            for row in range(len(A)):
                for column in columns[row * len(columns) // len(A)]:
                    if column < A.shape[1]:
                        A[row, column] += alpha * _added(module, layer, A[row, column])
            return A if isinstance(output, Tensor) else (A, *output[1:])

        return hook

    blocks = decoder_blocks(model)
    handles = [blocks[layer].register_forward_hook(hook_for(layer)) for layer in module.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits(
    model: nn.Module, ids: Sequence[int], module: SteeringModule, columns: Iterable[int], alpha: float = 1.0
) -> Tensor:
    """[token, vocabulary] of one whole text."""
    with torch.inference_mode(), written(model, module, [list(columns)], alpha):
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]


class Said(NamedTuple):
    """New tokens, and the logits that each was taken from [token, vocabulary]."""

    tokens: list[int]
    logits: Tensor

    def check(self, other: Said) -> None:
        assert self.tokens == other.tokens
        torch.testing.assert_close(self.logits, other.logits, rtol=1e-4, atol=2e-4)


def greedy(
    model: nn.Module, ids: Sequence[int], n: int, module: SteeringModule, start: int | None = None, alpha: float = 1.0
) -> Said:
    """n new tokens, steered from column `start` on; R where none is said."""
    text, said = list(ids), []
    for _ in range(n):
        columns = range(len(ids) - 1 if start is None else start, len(text))
        said.append(logits(model, text, module, columns, alpha)[-1])
        text.append(int(said[-1].argmax()))
    return Said(text[len(ids) :], torch.stack(said))


def generated(model: nn.Module, ids: Sequence[int] | Tensor | None, n: int, **more: Any) -> list[Said]:
    """What model.generate says, row by row."""
    prompt = torch.tensor([list(ids)]) if isinstance(ids, tuple) else ids
    with torch.inference_mode():
        out = model.generate(
            prompt, max_new_tokens=n, output_logits=True, return_dict_in_generate=True, **(GREEDY | more)
        )
    tokens, said = out.sequences[:, -n:].tolist(), torch.stack(out.logits, dim=1)
    return [Said(*row) for row in zip(tokens, said, strict=True)]


def left_padded(rows: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """ids and attention mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
