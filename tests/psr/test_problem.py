"""What a fit refuses before its first step, each in one clear line."""

from dataclasses import replace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting.loop import fit, pose
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_LL, FAST_MSE
from psr.lm.recording import Targets
from tests.psr.toy import D, example, examples, toy

A_PSR, S_PSR = parse_method("a-psr-mse-r"), parse_method("s-psr-mse-r")


def wanted(model: str = "toy", span: str = "R", layers=(0, 1), drop: int = 0) -> Targets:
    lengths = [one.tokens.length for one in examples()][: 3 - drop]
    offsets = tuple(sum(lengths[:i]) for i in range(len(lengths) + 1))
    return Targets(torch.randn(len(layers), offsets[-1], D), offsets, layers, model, span)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": []}, "no examples to fit a module on"),
        ({"targets": wanted(model="other")}, "recorded on another model.*expected fingerprint toy, got other"),
        ({"targets": wanted(span="QR")}, "recorded on another span"),
        ({"targets": wanted(layers=(1,))}, "the targets lack layers"),
        ({"targets": wanted(drop=1)}, "expected 3 sequences, got 2"),
        ({"targets": wanted(), "examples": list(reversed(examples()))}, "example 0.*span tokens"),
        ({"method": parse_method("a-const-dim-r")}, "not fitted by gradients"),
        ({"method": parse_method("a-psr-mse-qr")}, "aligned on another span"),
        ({"method": S_PSR}, "one layer"),
        ({"layers": (0, 2)}, "no such layer to steer.*0 to 1, got"),
        ({"layers": ()}, "no such layer to steer"),
        ({"examples": [example(list(range(1, 11)) * 6, [1, 2, 3])]}, "longer than the model's context"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    arguments = {"examples": examples(), "method": A_PSR, "layers": (0, 1), "settings": FAST_MSE, **change}
    with pytest.raises(PsrError, match=message) as error:
        fit(toy(), **arguments, module_id="m")
    assert "\n" not in str(error.value)


def test_targets_are_laid_over_the_plain_run():
    targets = wanted(layers=(1, 0))
    problem = pose(toy(), examples(), A_PSR, (0, 1), FAST_MSE, targets)
    batch = problem.data.batch(torch.tensor([2, 0]), torch.device("cpu"))
    laid = problem.wanted(batch)
    for row, i in enumerate((2, 0)):
        for layer in (0, 1):
            expected = targets.sequence(i)[targets.layers.index(layer)]
            assert torch.equal(laid[layer, row][batch.span[row]], expected)


@pytest.mark.parametrize("objective", ["LL", "KL", "RePS"])
def test_an_objective_without_targets_asks_for_none_and_is_named_when_they_are_wanted(objective):
    plain = [replace(one, rejected=(1, 2)) for one in examples()]
    problem = pose(toy(), plain, parse_method(f"s-psr-{objective.lower()}-r"), (1,), FAST_LL, None)
    assert problem.targets is None
    with pytest.raises(PsrError, match=f"^{objective} has no targets"):
        problem.wanted(problem.data.batch(torch.tensor([0]), torch.device("cpu")))
