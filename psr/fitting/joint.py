"""Many attributes' modules in one pass: the rows of a batch carry different attributes' modules.

    step k     the k-th mini-batch of every attribute's own epoch order, all rows together
    loss       Σ_a  1/n_a Σ_{i of a} ( objective_i / scale_a + regulariser_i )      a's gradient is that of a fitted alone
    pass       the rows sorted by length and cut into passes of at most `tokens` tokens, whatever their attributes

Rows do not see one another, so the loss of a step is a sum over rows and may be cut anywhere. Each attribute is a `course`
of its own (psr/fitting/loop.py): its seed, order, optimiser, schedule and end are those of the fit alone, and so is its module,
up to the rounding of batches of another shape. What it costs is the frozen model's work on the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psr.errors import PsrError
from psr.fitting.loop import Course, Diverged, Fitted, Params, course, finished, started
from psr.fitting.losses import row_losses
from psr.fitting.objectives import dead_gates
from psr.fitting.preparing import checked_scale, prepared, unsteered_errors
from psr.fitting.presets import FitSettings
from psr.fitting.problem import Problem, pose
from psr.fitting.stores import Store, joined
from psr.steering.module import SteeringModule
from psr.types import Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

TOKENS = 2048  # on two cores 2000 to 3000 were quickest: more no longer fit the cache


@dataclass(eq=False)
class Member:
    """One attribute's fit. own: its examples among the pooled ones, [n]; rows, factor: its next batch; result: its end."""

    problem: Problem
    own: Tensor
    params: Params
    made: Callable[..., SteeringModule]
    course: Course
    rows: Tensor
    factor: Tensor | None = None
    result: Fitted | Diverged | None = None

    def go_on(self, parts: Tensor | None) -> None:
        """Take the step whose gradients and [4] parts are there (None: begin), up to the next batch or the end."""
        try:
            self.rows, self.factor = self.course.send(parts)
        except StopIteration as end:
            self.result = finished(self.problem, self.own, self.params, end.value, self.made)
        except Diverged as error:
            self.result = error


def fit_many(
    lm: LanguageModel,
    examples: Mapping[str, Sequence[Example]],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    *,
    targets: Mapping[str, Store] | None = None,
    seeds: Mapping[str, int] | None = None,
    origins: Mapping[str, Mapping[str, Any]] | None = None,
    frozen_once: bool = True,
    tokens: int = TOKENS,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Fitted | Diverged]:
    """Fit one module for each name, on its own examples, as `fit` does. The module's id is its name.

    targets: name -> as in `fit`; None: recorded here, as the budget allows (MSE). seeds: name -> instead of settings.seed.
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
    problem, owned = _pooled(lm, examples, method, layers, settings, targets)
    problem = prepared(problem, frozen_once)
    scales = _scales(problem, owned)
    members = {}
    for name, own in owned.items():
        seed = settings.seed if seeds is None else seeds[name]
        mine = replace(
            problem, examples=tuple(examples[name]), settings=replace(settings, seed=seed), scale=scales[name]
        )
        params, made = started(mine, name, method, None if origins is None else origins[name])
        members[name] = Member(mine, own, params, made, course(mine, own, params, made), own[:0])
    _drive(problem, list(members.values()), tokens, progress)
    return {name: member.result for name, member in members.items() if member.result is not None}


def _pooled(
    lm: LanguageModel,
    examples: Mapping[str, Sequence[Example]],
    method: Method,
    layers: tuple[int, ...],
    settings: FitSettings,
    targets: Mapping[str, Store] | None,
) -> tuple[Problem, dict[str, Tensor]]:
    """One problem over all examples, and which of them belong to each name. A list given twice is pooled once."""
    lists = {id(own): name for name, own in reversed(list(examples.items()))}  # the first name of each list
    first = [name for name, own in examples.items() if lists[id(own)] == name]
    pool = [example for name in first for example in examples[name]]
    store = None if targets is None else joined([targets[name] for name in first])
    starts, at = {}, 0
    for name in first:
        starts[name] = at
        at += len(examples[name])
    owned = {name: starts[lists[id(own)]] + torch.arange(len(own)) for name, own in examples.items()}
    return pose(lm, pool, method, layers, settings, store), owned


def _scales(problem: Problem, owned: Mapping[str, Tensor]) -> dict[str, float]:
    """What each attribute's MSE is divided by: its own mean unsteered error."""
    if not (problem.mse and problem.settings.normalise):
        return dict.fromkeys(owned, 1.0)
    errors = torch.empty(len(problem.data), dtype=torch.float64)
    for rows, values in unsteered_errors(problem):
        errors[rows] = values.double().cpu()
    return {name: checked_scale(float(errors[own].mean())) for name, own in owned.items()}


def _drive(problem: Problem, members: Sequence[Member], tokens: int, progress: Callable[[int], None] | None) -> None:
    for member in members:
        member.go_on(None)
    while live := [member for member in members if member.result is None]:
        parts = _step(problem, live, tokens)
        if progress is not None:
            progress(sum(len(member.rows) for member in live))
        for member, own in zip(live, parts, strict=True):
            member.go_on(own)


def _step(problem: Problem, live: Sequence[Member], tokens: int) -> Tensor:
    """Every member's gradients (into .grad) and parts, [member, 4] as `batch_loss` gives them."""
    device = problem.lm.device
    rows = torch.cat([member.rows for member in live])
    sizes = torch.tensor([len(member.rows) for member in live])
    owner = torch.arange(len(live)).repeat_interleave(sizes)
    factor = torch.cat([member.factor for member in live if member.factor is not None] or [torch.empty(0)])
    scale, share = torch.tensor([member.problem.scale for member in live]), 1 / sizes
    held = {name: torch.stack([member.params[name].detach() for member in live], dim=1) for name in live[0].params}
    gradients = {name: torch.zeros_like(tensor) for name, tensor in held.items()}
    parts = torch.zeros(len(live), 4, device=device)
    for some in passes(problem.data.length[rows], tokens):
        whose = owner[some]
        weights = (share[whose] / scale[whose]).to(device), share[whose].to(device)
        whose = whose.to(device)
        here = {name: tensor[:, whose].requires_grad_() for name, tensor in held.items()}
        values = _pass(problem, rows[some], here, factor[some.to(factor.device)] if len(factor) else None, weights)
        parts.index_add_(0, whose, values)
        for name, tensor in here.items():
            gradients[name].index_add_(1, whose, tensor.grad)  # type: ignore[arg-type]
    for i, member in enumerate(live):
        for name, tensor in member.params.items():
            tensor.grad = gradients[name][:, i].contiguous()
    return parts


def _pass(
    problem: Problem, rows: Tensor, params: Params, factor: Tensor | None, weights: tuple[Tensor, Tensor]
) -> Tensor:
    """One forward and backward. params: [layer, row, *shape], a leaf each; weights: of each row's objective and of its
    regulariser. Returns each row's part of its attribute's four parts, [row, 4].
    """
    batch = problem.data.batch(rows, problem.lm.device)
    losses, opened = row_losses(problem, batch, problem.form.settle(params), factor)
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
