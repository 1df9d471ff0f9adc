"""How a module is fitted: every number that changes the result, and the presets that hold them.

`paper` is what the authors' code runs (batch 1, lr 1e-3, 15 epochs for MSE, 7 for LL, shuffle seed 123); `fast` takes
a fraction of the steps (batch 32, lr 1e-2). What was compared with paper's schedule, on two of the testbed's traits and
three seeds, is the full profile's: 12 epochs of batch 16 at lr 1e-2. It was equal on pirate and 4 points of TA@Cp lower on
gloomy, far inside the intervals, which are wide (docs/results.md). `fast` as it stands here was not compared with it.

A benchmark's package sets the dead-gate regulariser and the normalised MSE, which belong together: dividing by the
unsteered MSE makes the regulariser's weight mean the same on every model (Heyman & Vandeputte, "Steer Like the LLM",
ICML 2026, Section 3 and appendix). A regulariser on an MSE that is not normalised is therefore refused, unless `mixed`
says that it is meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from psr.errors import PsrError

LabelSpan = Literal["response", "span"]
Init = Literal["uniform", "small", "delta"]
AXBENCH_FACTORS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0)


@dataclass(frozen=True)
class FitSettings:
    """How a module is fitted. Raises PsrError when a value makes no sense.

    epochs, batch_size: whole numbers of at least 1; lr, weight_decay: AdamW's, lr decays linearly to 0, no warm-up.
    seed: starts both the parameters and the order of the examples.
    regulariser: weight of the dead-gate regulariser (gated forms only), 0 turns it off.
    normalise: divide the MSE once by its mean over the unsteered training set; LL knows no such mean.
    soft_labels: during MSE training alpha = trait score of y' in [0, 1], else 1; LL always has alpha = 1.
    stop_below: end after the first epoch whose mean objective is smaller; None: never.
    label_span: LL's labels: the response with its end of turn, or every token that a steered position predicts.
    init: "uniform" ±1/√d; "small": 0.01 · normal with b = 0; "delta": uniform, but z starts as the leading
    directions of Δ_PS (psr/fitting/initial.py).
    alpha_offset: added to every soft label (Section 3.6); 0 in every reported experiment.
    factors: the α's that RePS draws from in training, those that will be used later.
    keep: beside the objective, so many times KL(untouched ‖ steered) of each negative, in nats a token, is what the negative
    costs; 0: the negative has the objective's own value, with the target that nothing changes (psr.align_plain).
    mixed: allow the dead-gate regulariser beside an MSE that is not normalised.
    """

    epochs: int = 15
    batch_size: int = 32
    lr: float = 1e-2
    weight_decay: float = 1e-6
    seed: int = 123
    regulariser: float = 0.1
    normalise: bool = True
    soft_labels: bool = True
    stop_below: float | None = None
    label_span: LabelSpan = "response"
    init: Init = "uniform"
    alpha_offset: float = 0.0
    factors: tuple[float, ...] = AXBENCH_FACTORS
    keep: float = 0.0
    mixed: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(math.isfinite(self.lr) and self.lr > 0, "lr", "a positive number", self.lr)
        for name in ("weight_decay", "regulariser", "keep"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, "a number of at least 0", value)
        stop = self.stop_below
        _require(stop is None or stop > 0, "stop_below", "none or a positive number", stop)
        _require(math.isfinite(self.alpha_offset), "alpha_offset", "a finite number", self.alpha_offset)
        good = bool(self.factors) and all(math.isfinite(factor) and factor > 0 for factor in self.factors)
        _require(good, "factors", "one or more positive numbers", self.factors)
        for name, known in (("label_span", get_args(LabelSpan)), ("init", get_args(Init))):
            _require(getattr(self, name) in known, name, " or ".join(known), getattr(self, name))


def _require(good: bool, name: str, expected: str, got: object) -> None:
    if not good:
        raise PsrError("a fit setting makes no sense", where=name, expected=expected, got=repr(got), do="Correct it.")


PAPER_MSE = FitSettings(epochs=15, batch_size=1, lr=1e-3)
PAPER_LL = replace(PAPER_MSE, epochs=7, regulariser=0.0, normalise=False, soft_labels=False)
FAST_MSE = replace(PAPER_MSE, batch_size=32, lr=1e-2)
FAST_LL = replace(PAPER_LL, batch_size=32, lr=1e-2)
REFT_R1 = replace(PAPER_LL, epochs=3, batch_size=6, lr=1e-2, weight_decay=0.0)  # arXiv:2501.17148; both presets
FAST_ADAPTER = replace(FAST_LL, lr=1e-3)  # peft's own habit; full fine-tuning takes a tenth

PACKAGES: dict[str, dict[str, float | bool]] = {
    "persona": {"regulariser": 0.1, "normalise": True},
    "ifeval": {"regulariser": 0.0, "normalise": False},
    "axbench": {"regulariser": 0.0, "normalise": True},  # the sources disagree; this is the default here
}


def package(name: str) -> dict[str, float | bool]:
    """A benchmark's package, as fields to replace: `replace(PAPER_MSE, **package("ifeval"))`.

    name: "persona", "ifeval" or "axbench". Raises PsrError that lists the known ones.
    """
    if name not in PACKAGES:
        raise PsrError("no fit package for this benchmark", expected=f"one of {', '.join(PACKAGES)}", got=repr(name))
    return dict(PACKAGES[name])
