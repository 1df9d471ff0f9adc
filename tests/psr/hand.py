"""Methods computed by hand on a two-layer model, one sequence at a time: torch alone, nothing of the library.

`model` is any object with model.E.weight, model.layers[i].W and U (tests/psr/toy.py). A sequence is a plain tuple of ids.
"""

from __future__ import annotations

import torch
from torch import Tensor


def run(model, ids, edits=None, start: int = 0) -> tuple[list[Tensor], Tensor]:
    """Activations after each block and the logits. edits[layer](h of the span [n, d]) -> what is added there."""
    h, outputs = model.model.E.weight[list(ids)], []
    for number, block in enumerate(model.model.layers):
        h = h + torch.tanh(torch.stack([h[: i + 1].mean(0) for i in range(len(h))]) @ block.W)
        if edits and number in edits:
            h = torch.cat([h[:start], h[start:] + edits[number](h[start:])])
        outputs.append(h)
    return outputs, 3 * h @ model.U


def gram_schmidt(rows: Tensor) -> Tensor:
    done: list[Tensor] = []
    for row in rows:
        for other in done:
            row = row - (row @ other) * other
        done.append(row / row.norm())
    return torch.stack(done)


def added(form: str, p: dict[str, Tensor], alpha: float):
    """One layer's edit: α · Σ_k λ_k z_k, written out per form."""
    if form == "Const":
        return lambda h: alpha * p["z"].expand_as(h)
    if form == "PSR":
        return lambda h: alpha * torch.relu(h @ p["w"] + p["b"])[:, None] * p["z"]
    if form.startswith("PSR"):
        return lambda h: (
            alpha * sum(torch.relu(h @ p["w"][k] + p["b"][k])[:, None] * p["z"][k] for k in range(len(p["z"])))
        )
    R = gram_schmidt(p["z"])
    return lambda h: alpha * (h @ p["w"].T + p["b"] - h @ R.T) @ R


def missing_gates(form: str, p: dict[str, Tensor], h: Tensor) -> Tensor:
    """Σ_k max(0, 1 − Σ_i λ_ik) of one layer and sequence."""
    w, b = (p["w"][None], p["b"][None]) if form == "PSR" else (p["w"], p["b"])
    return sum((1 - torch.relu(h @ w[k] + b[k]).sum()).clamp_min(0) for k in range(len(w)))


def answer_likelihood(model, prompt, answer, edits, start: int) -> Tensor:
    _, logits = run(model, (*prompt, *answer), edits, start)
    return sum(logits[len(prompt) + i - 1].log_softmax(-1)[token] for i, token in enumerate(answer))


def squared_error(model, plain, instructed, starts, edits, lowest: int) -> Tensor:
    A, _ = run(model, plain, edits, starts[0])
    B, _ = run(model, instructed)
    return sum(((A[j][starts[0] :] - B[j][starts[1] :]) ** 2).mean() for j in range(lowest, len(A)))


def divergence(model, plain, instructed, response: int, edits, start: int) -> Tensor:
    _, student = run(model, plain, edits, start)
    _, teacher = run(model, instructed)
    values = []
    for back in range(response, 0, -1):  # the token `back` from the end is predicted by the one before it
        p, q = teacher[len(instructed) - back - 1].softmax(-1), student[len(plain) - back - 1].softmax(-1)
        values.append((p * (p / q).log()).sum())
    return torch.stack(values).mean()


def preference(model, prompt, wanted, other, edits_up, edits_down, start: int) -> Tensor:
    """RePS with its mirror image."""
    free = [answer_likelihood(model, prompt, answer, {}, start) for answer in (wanted, other)]
    total = torch.zeros(())
    for edits, (good, bad), (l_good, l_bad) in (
        (edits_up, (wanted, other), free),
        (edits_down, (other, wanted), free[::-1]),
    ):
        s = max(1.0, float(l_bad - l_good))
        gap = s * answer_likelihood(model, prompt, good, edits, start) / len(good) - answer_likelihood(
            model, prompt, bad, edits, start
        ) / len(bad)
        total = total + torch.nn.functional.softplus(-gap)  # −log σ(gap)
    return total


def adamw(loss_of, params: dict[str, Tensor], steps: int, lr: float, decay: float, after=None) -> list[float]:
    """AdamW with a rate that falls linearly to 0; changes `params`, returns the loss before each step."""
    first = {name: torch.zeros_like(value) for name, value in params.items()}
    second = {name: torch.zeros_like(value) for name, value in params.items()}
    losses = []
    for step in range(steps):
        live = {name: value.clone().requires_grad_() for name, value in params.items()}
        loss = loss_of(live, step)
        losses.append(loss.item())
        grads = dict(zip(live, torch.autograd.grad(loss, list(live.values())), strict=True))
        if after is not None:
            grads = after(params, grads)
        rate = lr * (1 - step / steps)
        for name, gradient in grads.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            size = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            params[name] = params[name] * (1 - rate * decay) - rate * first[name] / (1 - 0.9 ** (step + 1)) / size
    return losses
