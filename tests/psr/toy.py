"""A two-layer language model small enough to steer by hand, its examples, and what fitting does to it, without psr.

The hand's side knows no padding, no hooks and no batches: one sequence at a time, the formulas written out.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from psr.fitting.presets import FitSettings
from psr.lm.models import LanguageModel
from psr.types import AlignedTokens, Example

D, WORDS, LAYERS = 6, 11, 2


class Block(nn.Module):
    """h + tanh(mean of h so far · W): causal, so that right padding is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(D, D))

    def forward(self, h: Tensor) -> Tensor:
        so_far = h.cumsum(1) / torch.arange(1, h.shape[1] + 1).unsqueeze(-1)
        return h + torch.tanh(so_far @ self.W)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.E = nn.Embedding(WORDS, D)
        self.layers = nn.ModuleList([Block() for _ in range(LAYERS)])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> Tensor:
        h = self.E(input_ids)
        for layer in self.layers:
            h = layer(h)
        return 3 * h  # stands for a final norm, which the MSE must not see


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Base()
        self.U = nn.Parameter(torch.randn(D, WORDS))
        text = SimpleNamespace(hidden_size=D, max_position_embeddings=64, num_hidden_layers=LAYERS)
        self.config = SimpleNamespace(get_text_config=lambda decoder=False: text, num_hidden_layers=LAYERS)

    @property
    def base_model(self) -> nn.Module:
        return self.model

    @property
    def device(self) -> torch.device:
        return self.U.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> SimpleNamespace:
        return SimpleNamespace(logits=self.model(input_ids, attention_mask) @ self.U)


def toy() -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Toy().eval().requires_grad_(False)
    return LanguageModel(model, SimpleNamespace(pad_token_id=0), "toy")


def example(question: list[int], response: list[int], trait: float = 1.0, span: str = "R", word: int = 9) -> Example:
    start = len(question) - 1 if span == "R" else 1
    plain = (*question, *response)
    return Example(AlignedTokens(plain, (word, word, *plain), start, start + 2, len(response), span), trait)


def examples(span: str = "R") -> list[Example]:
    return [
        example([1, 2, 3], [4, 5, 6, 7], 0.9, span),
        example([3, 1], [8], 0.5, span),
        example([2, 5, 1, 4], [6, 6], 1.0, span),
    ]


def activations(
    model: Toy, ids, params=None, layers=(), alpha=0.0, start=0
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """A after each block, λ inside the span per steered layer, and the logits."""
    h, outputs, opened = model.model.E.weight[list(ids)], [], []
    for number, block in enumerate(model.model.layers):
        averages = torch.stack([h[: i + 1].mean(0) for i in range(len(h))])
        h = h + torch.tanh(averages @ block.W)
        if number in layers:
            p = {name: value[layers.index(number)] for name, value in params.items()}
            lam = torch.relu(h[start:] @ p["w"] + p["b"]) if "w" in p else torch.ones(len(h) - start)
            h = torch.cat([h[:start], h[start:] + alpha * lam[:, None] * p["z"]])
            opened.append(lam)
        outputs.append(h)
    return outputs, opened, 3 * h @ model.U


def loss_by_hand(model: Toy, data, params, layers, objective: str, settings: FitSettings, scale: float) -> Tensor:
    losses = []
    for one in data:
        t = one.tokens
        alpha = one.trait if objective == "MSE" and settings.soft_labels else 1.0
        A, opened, logits = activations(model, t.plain_ids, params, layers, alpha, t.plain_start)
        if objective == "MSE":
            goal, _, _ = activations(model, t.instructed_ids)
            value = (
                sum(
                    ((A[j][t.plain_start :] - goal[j][t.instructed_start :]) ** 2).mean()
                    for j in range(min(layers), LAYERS)
                )
                / scale
            )
        else:
            first = len(t.plain_ids) - t.response if settings.label_span == "response" else t.plain_start + 1
            labels = range(first, len(t.plain_ids))
            value = -torch.stack([logits[i - 1].log_softmax(-1)[t.plain_ids[i]] for i in labels]).mean()
        missing = sum((1 - lam.sum()).clamp_min(0) for lam in opened)
        losses.append(value + settings.regulariser * missing)
    return torch.stack(losses).mean()


def adamw_by_hand(model: Toy, data, params, layers, objective, settings: FitSettings, scale: float) -> list[float]:
    """Full-batch AdamW with a rate that falls linearly to 0; changes `params` and returns the loss before each step."""
    first = {name: torch.zeros_like(value) for name, value in params.items()}
    second = {name: torch.zeros_like(value) for name, value in params.items()}
    losses = []
    for step in range(settings.epochs):
        live = {name: value.clone().requires_grad_() for name, value in params.items()}
        loss = loss_by_hand(model, data, live, layers, objective, settings, scale)
        losses.append(loss.item())
        rate = settings.lr * (1 - step / settings.epochs)
        for name, gradient in zip(live, torch.autograd.grad(loss, list(live.values())), strict=True):
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            size = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            kept = params[name] * (1 - rate * settings.weight_decay)
            params[name] = kept - rate * first[name] / (1 - 0.9 ** (step + 1)) / size
    return losses
