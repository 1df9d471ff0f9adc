"""The floor takes the batches of a fit, and the paper's loop is a fit at batch 1."""

from __future__ import annotations

from dataclasses import replace

import torch
from toy import LAYERS, examples, toy

from psr.fitting import yardsticks
from psr.fitting.loop import batch_loss, initial_params, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import PAPER_MSE
from psr.fitting.yardsticks import batches_of_epoch, floor_epochs, paper_loop
from psr.lm.recording import record

METHOD, ALL = parse_method("a-psr-mse-r"), tuple(range(LAYERS))
BARE = replace(PAPER_MSE, regulariser=0.0, normalise=False)


def test_the_floor_runs_every_batch_so_many_times_and_leaves_nothing_behind(monkeypatch):
    lm, seen = toy(), []
    batches = batches_of_epoch(pose(lm, examples(), METHOD, ALL, replace(BARE, batch_size=2), None))
    floor_epochs(lm, batches, 1)
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    monkeypatch.setattr(yardsticks, "floor_step", lambda lm, batch: seen.append(batch))
    floor_epochs(lm, batches, 3)
    assert [id(batch) for batch in seen] == [id(batch) for batch in batches] * 3


def test_the_batches_of_an_epoch_hold_every_example_once():
    problem = pose(toy(), examples(), METHOD, ALL, replace(BARE, batch_size=2), None)
    assert sorted(row for batch in batches_of_epoch(problem) for row in batch.rows.tolist()) == [0, 1, 2]


def test_the_papers_loop_is_adamw_on_one_example_after_another_with_targets_recorded_before():
    lm, data = toy(), examples()
    targets = record(
        lm, [e.tokens.instructed_ids for e in data], [e.tokens.instructed_start for e in data], ALL, span="R"
    )
    problem = pose(lm, data, METHOD, ALL, BARE, targets)
    params = {name: value.requires_grad_() for name, value in initial_params(problem).items()}
    optimiser = torch.optim.AdamW(params.values(), lr=BARE.lr, weight_decay=BARE.weight_decay)
    for i in range(len(data)):
        optimiser.zero_grad()
        batch_loss(problem, problem.data.batch(torch.tensor([i]), lm.device), params)[0].backward()
        optimiser.step()
    steps: list[int] = []
    looped = paper_loop(lm, data, METHOD, ALL, BARE, progress=steps.append)
    assert steps == [1, 1, 1]
    for name, value in params.items():
        torch.testing.assert_close(looped[name], value)
