"""What somebody's own package may hold: a closed-form method, an objective and its method, and plugs that keep no contract."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import torch

from psr import Fitted, Method
from psr.fitting.methods import Learning, MethodPlug
from psr.fitting.methods.gradient import by_gradients
from psr.fitting.methods.pairs import prompt_ends
from psr.fitting.presets import FAST_LL, FAST_MSE, PAPER_MSE
from psr.fitting.problem import Objective, activations, soft_labels
from psr.fitting.request import FitRequest
from psr.types import INSTRUCTED


def twice(request: FitRequest) -> Fitted:
    """z[l] = 2 · mean(A[l | x'] − A[l | x]) at the last prompt token."""
    instructed, plain = prompt_ends(request.lm, request.examples, request.layers)
    return request.fitted({"z": 2 * (instructed.values - plain.values).mean(dim=1)}, pairs=len(plain))


def absolute(problem, batch, steering):
    """Σ_l 1/(n·d) Σ_i ‖ A'[l,i | x y'] − A[l,i | x' y'] ‖₁"""
    A = activations(problem, batch, steering, problem.seen)
    total = torch.zeros(len(batch.span))
    for layer, wanted in zip(problem.seen, problem.wanted(batch), strict=True):
        distances = (A[layer] - wanted).abs().mean(dim=-1).masked_fill(~batch.span, 0.0)
        total = total + distances.sum(dim=1) / batch.span.sum(dim=1)
    return total


ABSOLUTE = Objective(
    "L1", {"paper": PAPER_MSE, "fast": FAST_MSE}, absolute, reads=(INSTRUCTED,), strengths=soft_labels, normalises=True
)
S_CONST = Method("S", "Const", "Twice", "R")
TWICE = MethodPlug(S_CONST, Learning(twice, at_least=2))
BY_PATH = MethodPlug(replace(S_CONST, objective="Late"), "tests.psr.own_methods:LATE")  # what learns is imported later
LATE = Learning(twice)
ABSOLUTE_PSR = by_gradients(Method("A", "PSR", "L1", "R"), ABSOLUTE)
ABSOLUTE_CONST = by_gradients(Method("S", "Const", "L1", "QR"), ABSOLUTE)

NO_METHOD = SimpleNamespace(how=Learning(twice), trained=False)
NO_ROW = SimpleNamespace(method="s-const-twice-r", how=Learning(twice), trained=False)
NO_LEARNING = MethodPlug(S_CONST, SimpleNamespace(reads=(), at_least=1))
NO_WAY = MethodPlug(S_CONST, "tests.psr.own_methods:ELSEWHERE")
NO_FUNCTION = MethodPlug(S_CONST, Learning("twice"))
NO_SCOPE = MethodPlug(replace(S_CONST, scope="L"), Learning(twice))
NO_SPAN = MethodPlug(replace(S_CONST, span="RQ"), Learning(twice))
NO_FORM = MethodPlug(replace(S_CONST, form="Cubic"), Learning(twice))
NO_NAME = MethodPlug(replace(S_CONST, objective="Twice/2"), Learning(twice))
NO_READS = MethodPlug(S_CONST, Learning(twice, reads=("prompted",)))
NO_PRESETS = MethodPlug(S_CONST, Learning(twice), trained=True)
HALF_PRESETS = MethodPlug(S_CONST, Learning(twice, presets={"fast": FAST_LL}), trained=True)
PRESETS = MethodPlug(S_CONST, Learning(twice, presets={"fast": FAST_LL, "paper": FAST_LL}))
OURS = MethodPlug(replace(S_CONST, objective="DiM"), Learning(twice))
OURS_RANKED = MethodPlug(Method("S", "PSR4", "MSE", "R"), Learning(twice))
MISFIT = MethodPlug(S_CONST, Learning(lambda request: request.fitted({"z": torch.zeros(3, 3)})))
NOTHING = MethodPlug(S_CONST, Learning(lambda request: None))
ANOTHER = MethodPlug(S_CONST, Learning(lambda request: twice(replace(request, module_id="mine"))))
BLIND = by_gradients(
    Method("S", "PSR", "Blind", "R"),
    replace(ABSOLUTE, rows=lambda problem, batch, steering: batch.trait.requires_grad_()),
)
