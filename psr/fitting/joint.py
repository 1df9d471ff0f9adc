"""Many attributes' modules in one pass: the rows of a batch carry different attributes' modules.

    step k     the k-th mini-batch of every attribute's own epoch order, all rows together
    loss       Σ_a  1/n_a Σ_{i of a} ( objective_i / scale_a + regulariser_i )      a's gradient is that of a fitted alone
    pass       the rows sorted by length and cut into passes of at most `tokens` tokens, whatever their attributes

Rows do not see one another, so the loss of a step is a sum over rows and may be cut anywhere. Each attribute takes the `steps`
of a fit alone (psr/fitting/loop.py): its seed, order, optimiser, schedule and end are those of that fit, and so is its module,
up to the rounding of batches of another shape. What it costs is the frozen model's work on the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.checks import check_kept
from psr.fitting.loop import Diverged, Fitted, Params, Run, begun, ended, pose, steps
from psr.fitting.losses import dead_gates, mean_error, row_losses, unsteered_errors
from psr.fitting.presets import FitSettings
from psr.fitting.problem import Objective, Problem
from psr.fitting.stores import Store, joined
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

TOKENS = 2048  # on two cores 2000 to 3000 were quickest: more no longer fit the cache


@dataclass(frozen=True, eq=False)
class Step:
    """One attribute's next step: its batch's rows among the pooled examples and their α, [batch] each."""

    run: Run
    rows: Tensor
    alpha: Tensor


def fit_many(
    lm: LanguageModel,
    examples: Mapping[str, Sequence[Example]],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    *,
    objective: Objective | None = None,
    targets: Mapping[str, Store] | None = None,
    seeds: Mapping[str, int] | None = None,
    origins: Mapping[str, Mapping[str, Any]] | None = None,
    frozen_once: bool = True,
    tokens: int = TOKENS,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Fitted | Diverged]:
    """Fit one module for each name, on its own examples, as `fit` does. The module's id is its name.

    objective: as in `fit`. targets: name -> as in `fit`; None: recorded here, as the budget allows (MSE). seeds: name ->
    instead of settings.seed.
    Names with the very same list of examples share its rows and targets. frozen_once: as in `fit`. tokens: at most so many
    in one pass (memory); it changes no result. progress(n) is called after each step with the examples in it.
    A fit that leaves the finite numbers has its Diverged in place of its Fitted, and stops no other.
    Raises PsrError as `fit` does.
    """
    if tokens < 1 or not examples:
        raise PsrError(
            "nothing to fit in one pass",
            expected="one attribute or more, and passes of at least 1 token",
            got=f"{len(examples)} attributes, tokens {tokens}",
        )
    for name, own_examples in examples.items():
        check_kept(own_examples, settings, name)
    pool, owned, store = _pooled(examples, targets)
    problem = pose(lm, pool, method, layers, settings, store, frozen_once, objective)
    errors = unsteered_errors(problem)
    runs = {}
    for name, own in owned.items():
        mine = replace(
            problem,
            examples=tuple(examples[name]),
            settings=settings if seeds is None else replace(settings, seed=seeds[name]),
            scale=mean_error(problem, errors, own),
        )
        runs[name] = begun(mine, own, name, None if origins is None else origins[name])
    results: dict[str, Fitted | Diverged] = {}
    batches = {name: steps(run) for name, run in runs.items()}
    while batches:
        live = []
        for name in list(batches):
            try:
                live.append(Step(runs[name], *next(batches[name])))
            except StopIteration:
                results[name] = ended(runs[name])
            except Diverged as error:
                results[name] = error
            if name in results:
                del batches[name]
        if live:
            _backward(problem, live, tokens)
            if progress is not None:
                progress(sum(len(step.rows) for step in live))
    return {name: results[name] for name in examples}


def _pooled(
    examples: Mapping[str, Sequence[Example]], targets: Mapping[str, Store] | None
) -> tuple[list[Example], dict[str, Tensor], Store | None]:
    """All examples, which of them belong to each name, and their targets. A list given twice is pooled once."""
    lists = {id(own): name for name, own in reversed(list(examples.items()))}  # the first name of each list
    first = [name for name, own in examples.items() if lists[id(own)] == name]
    pool = [example for name in first for example in examples[name]]
    starts, at = {}, 0
    for name in first:
        starts[name] = at
        at += len(examples[name])
    owned = {name: starts[lists[id(own)]] + torch.arange(len(own)) for name, own in examples.items()}
    return pool, owned, None if targets is None else joined([targets[name] for name in first])


def _backward(problem: Problem, live: Sequence[Step], tokens: int) -> None:
    """Leave every run's gradients in its params, and the four parts of its loss, as `batch_loss` gives them, in its parts."""
    device = problem.lm.device
    rows = torch.cat([step.rows for step in live])
    sizes = torch.tensor([len(step.rows) for step in live])
    owner = torch.arange(len(live)).repeat_interleave(sizes)
    alpha = torch.cat([step.alpha for step in live]).to(device)
    scale, share = torch.tensor([step.run.problem.scale for step in live]), 1 / sizes
    stacked = {
        name: torch.stack([step.run.params[name].detach() for step in live], dim=1) for name in live[0].run.params
    }
    gradients = {name: torch.zeros_like(tensor) for name, tensor in stacked.items()}
    parts = torch.zeros(len(live), 4, device=device)
    for some in passes(problem.data.length[rows], tokens):
        whose = owner[some]
        divided = scale[whose]
        weights = (share[whose] / divided).to(device), share[whose].to(device)
        whose = whose.to(device)
        leaves = {name: tensor[:, whose].requires_grad_() for name, tensor in stacked.items()}
        values = _pass(problem, rows[some], leaves, alpha[some.to(device)], weights, divided.to(device))
        parts.index_add_(0, whose, values)
        for name, tensor in leaves.items():
            gradients[name].index_add_(1, whose, tensor.grad)  # type: ignore[arg-type]
    for i, step in enumerate(live):
        step.run.parts.append(parts[i])
        for name, tensor in step.run.params.items():
            tensor.grad = gradients[name][:, i].contiguous()


def _pass(
    problem: Problem, rows: Tensor, params: Params, alpha: Tensor, weights: tuple[Tensor, Tensor], scale: Tensor
) -> Tensor:
    """One forward and backward. params: [layer, row, *shape], a leaf each; alpha, scale: [row]; weights: of each row's
    objective and of its regulariser. Returns each row's part of its attribute's four parts, [row, 4].
    """
    batch = problem.data.batch(rows, problem.lm.device)
    losses, opened = row_losses(problem, batch, problem.form.settle(params), alpha, scale)
    objective = losses * weights[0]
    if opened is None:
        regulariser = dead = torch.zeros_like(objective)
    else:
        regulariser = dead_gates(opened) * weights[1]
        dead = (opened <= 0).float().mean(dim=0) * weights[1]
    loss = objective + problem.settings.regulariser * regulariser
    loss.sum().backward()
    return torch.stack([loss, objective, regulariser, dead], dim=-1).detach()


def passes(length: Tensor, tokens: int) -> Iterator[Tensor]:
    """The rows in order of length, cut so that rows times the longest of them is at most `tokens` (one row at least).

    length: [row]. Yields indices into it, [some] long.
    """
    order = length.argsort(stable=True)
    first = 0
    for at, longest in enumerate(length[order].tolist()):
        if at > first and (at + 1 - first) * longest > tokens:
            yield order[first:at]
            first = at
    yield order[first:]
