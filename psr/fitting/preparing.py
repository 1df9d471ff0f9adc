"""What a fit computes once, before its first step, from the frozen model: no step changes it.

The stream that leaves the blocks below the module (psr/fitting/frozen.py), the mean unsteered MSE that the loss is divided by,
the teacher's predictions (KL) and the reference likelihoods (RePS).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.batches import TrainingSet
from psr.fitting.frozen import frozen_stream
from psr.fitting.losses import MEASURING_BATCH, likelihood, squared_error
from psr.fitting.problem import Problem

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


def prepared(problem: Problem, frozen_once: bool) -> Problem:
    """With the lower blocks' stream (where it is asked for and can be kept), the teacher's predictions, and ℓ_ref.

    RePS runs in full in each step: its plain answers have streams of their own.
    """
    if frozen_once and problem.objective != "RePS":
        problem = replace(problem, frozen=frozen_stream(problem.lm, problem.data, problem.layers[0]))
    if problem.teacher is not None:
        problem.teacher.store(problem.data, _vocabulary(problem.lm))
    if problem.rejected is not None:
        liked, disliked = (reference_likelihoods(problem, data) for data in (problem.data, problem.rejected))
        return replace(problem, reference=(liked, disliked))
    return problem


def _vocabulary(lm: LanguageModel) -> int:
    """How many numbers one prediction has."""
    with torch.no_grad():
        one = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
        return int(lm.model(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False).logits.shape[-1])


def normalised(problem: Problem) -> Problem:
    """With the number that the MSE is divided by, where the settings ask for one."""
    if not (problem.mse and problem.settings.normalise):
        return problem
    return replace(problem, scale=unsteered_mse(problem))


@torch.no_grad()
def reference_likelihoods(problem: Problem, data: TrainingSet) -> Tensor:
    """ℓ_ref of every answer of `data` under the unsteered model, [example] on the CPU."""
    values = torch.empty(len(data))
    for rows in data.length.argsort(stable=True).split(MEASURING_BATCH):
        values[rows] = likelihood(problem, data.batch(rows, problem.lm.device), {}).float().cpu()
    return values


@torch.no_grad()
def unsteered_errors(problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
    """The MSE of every example without any steering, in batches: which examples, and their errors, [batch] each."""
    for rows in problem.data.length.argsort(stable=True).split(MEASURING_BATCH):
        yield rows, squared_error(problem, problem.data.batch(rows, problem.lm.device), {}, None)


def unsteered_mse(problem: Problem) -> float:
    """The mean MSE over the training set without any steering, by which the normalised MSE is divided."""
    total = sum(float(errors.double().sum()) for _, errors in unsteered_errors(problem))
    return checked_scale(total / len(problem.data))


def checked_scale(mean: float) -> float:
    """`mean`, if an MSE can be divided by it. Raises PsrError."""
    if not mean > 0 or mean == float("inf"):
        raise PsrError(
            "the MSE cannot be normalised",
            expected="instructed runs that differ from the plain ones",
            got=f"a mean unsteered MSE of {mean}",
            do="Look at the pairs, or turn `normalise` off.",
        )
    return mean
