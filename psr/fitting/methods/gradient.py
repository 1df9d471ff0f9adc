"""Methods that gradients fit: Const, PSR of any rank and LoReFT, by any objective (psr/fitting/loop.py)."""

from __future__ import annotations

from functools import partial
from typing import Any

from psr.fitting.joint import fit_many
from psr.fitting.loop import Fitted, fit
from psr.fitting.methods.contract import Learning, MethodPlug
from psr.fitting.objectives import objective_named
from psr.fitting.problem import Objective
from psr.fitting.request import FitRequest
from psr.types import Method


def learning(method: Method) -> Learning:
    """How psr's own are learnt: by the registered objective that the method names."""
    return _by(objective_named(method.objective))


def by_gradients(method: Method, objective: Objective) -> MethodPlug:
    """A method of your own that minimises an objective of your own. method.form: "Const", "PSR", "PSR4", "LoReFT4", …

    Example:
        COSINE = by_gradients(Method("S", "PSR", "Cosine", "R"), Objective("Cosine", …))
    """
    return MethodPlug(method, _by(objective), trained=True)


def _by(objective: Objective) -> Learning:
    many: Any = partial(fit_many, objective=objective)
    return Learning(
        learn=partial(_learn, objective),
        learn_many=many,
        reads=objective.reads,
        presets=objective.presets,
        packaged=objective.normalises,
        imitates_runs=objective.imitates_runs,
        fits_likelihoods=objective.fits_likelihoods,
    )


def _learn(objective: Objective, request: FitRequest) -> Fitted:
    settings = request.settings or objective.presets["fast"]
    return fit(
        request.lm, request.examples, request.method, request.layers, settings, objective=objective,
        targets=request.instructed, module_id=request.module_id, origin=request.origin, progress=request.progress,
    )  # fmt: skip
