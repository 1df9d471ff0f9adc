"""Each objective against loops over plain Python numbers."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.fitting.losses import dead_gates, dead_share
from psr.fitting.objectives.ll import negative_log_likelihood
from psr.fitting.objectives.mse import mean_squared_error
from psr.fitting.presets import FAST_MSE
from psr.fitting.problem import ones, soft_labels


def tensors(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


MASK = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)


def test_mean_squared_error_is_the_mean_over_span_tokens_and_width():
    A, target = tensors(0, (2, 5, 3), (2, 5, 3))
    by_hand = []
    for row in range(2):
        inside = [(row, i, j) for i in range(5) if MASK[row, i] for j in range(3)]
        squares = [(float(A[at]) - float(target[at])) ** 2 for at in inside]
        by_hand.append(sum(squares) / len(squares))
    assert mean_squared_error(A, target, MASK).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_mean_squared_error_of_half_precision_is_computed_in_full():
    A = torch.full((1, 1, 4), 300.0, dtype=torch.float16)
    assert mean_squared_error(A, torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)).item() == 90000.0


def test_nan_outside_the_span_reaches_neither_the_error_nor_its_gradient():
    A, target = tensors(1, (2, 5, 3), (2, 5, 3))
    A[~MASK] = math.nan
    target[~MASK] = math.nan
    A.requires_grad_()
    error = mean_squared_error(A, target, MASK)
    error.sum().backward()
    assert bool(torch.isfinite(error).all())
    assert bool((A.grad[~MASK] == 0).all())
    assert bool((A.grad[MASK] != 0).all())


@given(seed=st.integers(0, 1000), length=st.integers(1, 6), padding=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_padding_changes_no_mean_squared_error(seed, length, padding):
    A, target = tensors(seed, (1, length + padding, 3), (1, length + padding, 3))
    mask = torch.arange(length + padding).unsqueeze(0) < length
    alone = mean_squared_error(A[:, :length], target[:, :length], mask[:, :length])
    torch.testing.assert_close(mean_squared_error(A, target, mask), alone)


def test_negative_log_likelihood_is_the_mean_over_labels():
    (logits,) = tensors(2, (2, 5, 7))
    labels = torch.tensor([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])
    by_hand = []
    for row in range(2):
        losses = []
        for i in range(5):
            if MASK[row, i]:
                scores = [float(x) for x in logits[row, i]]
                losses.append(math.log(sum(math.exp(x) for x in scores)) - scores[int(labels[row, i])])
        by_hand.append(sum(losses) / len(losses))
    assert negative_log_likelihood(logits, labels, MASK).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_dead_gates_counts_what_is_missing_to_an_opening_of_one():
    opening = torch.tensor([[0.0, 0.25], [3.0, 0.5], [0.0, 1.0]])  # three layers, two sequences
    assert dead_gates(opening).tolist() == [2.0, 1.25]
    assert dead_share(opening).item() == pytest.approx(2 / 6)


def test_dead_gates_pushes_only_layers_that_open_too_little():
    opening = torch.tensor([[0.5], [2.0]], requires_grad=True)
    dead_gates(opening).sum().backward()
    assert opening.grad.tolist() == [[-1.0], [0.0]]


def test_soft_alphas_are_the_trait_or_one():
    traits, draw = torch.tensor([0.25, 1.0]), torch.Generator()
    shifted = replace(FAST_MSE, alpha_offset=-0.5)
    assert soft_labels(FAST_MSE, traits, draw).tolist() == [0.25, 1.0]
    assert soft_labels(shifted, traits, draw).tolist() == [-0.25, 0.5]
    assert soft_labels(replace(shifted, soft_labels=False), traits, draw).tolist() == [1.0, 1.0]
    assert ones(shifted, traits, draw).tolist() == [1.0, 1.0]
