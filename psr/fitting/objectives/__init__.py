"""What gradients minimise: an objective a file, found by its name.

    MSE     mse.py     the steered run's activations are those of the instructed run
    LL      ll.py      the steered model says y'
    KL      kl.py      the steered model predicts what the instructed one predicts
    RePS    reps.py    the steered model prefers y' to the plain answer

Adding one: a file that defines an Objective (psr/fitting/problem.py), its line in OBJECTIVES, its test. Its methods, such as
`s-psr-NAME-r`, follow from the line. An objective of your own package needs no line: docs/how-to/method.md. This file imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.plugs import plug

if TYPE_CHECKING:
    from psr.fitting.problem import Objective

OBJECTIVES = {  # name -> where it is
    "MSE": "psr.fitting.objectives.mse:MSE",
    "LL": "psr.fitting.objectives.ll:LL",
    "KL": "psr.fitting.objectives.kl:KL",
    "RePS": "psr.fitting.objectives.reps:REPS",
}
NEEDS = {"name": "as methods write it", "presets": "its settings by name", "rows": "its value at each row of a batch"}


def objective_named(name: str) -> Objective:
    """The registered objective called `name`. Raises PsrError that lists them."""
    if name not in OBJECTIVES:
        raise PsrError(
            "this objective is not fitted by gradients",
            expected=f"one of {', '.join(OBJECTIVES)}",
            got=name,
            do="psr.learn knows every method.",
        )
    return plug("objective", name, OBJECTIVES, NEEDS)  # type: ignore[no-any-return]
