"""The figures of a module and of the prompt, on the same questions with the same random numbers.

trait               alpha as in TA@Cp, chosen on the search questions; trait alignment on the evaluation's
format instruction  alpha 1; strict accuracy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.evaluation.alpha_search import Scores, candidates, choose_at, search
from psr.evaluation.bootstrap import Figure, matched, plain_mean
from psr.evaluation.resampling import Array
from psr.types import INSTRUCTED, PLAIN
from tasks.asking.repetition import Asking
from tasks.benchmarks.catalogue import benchmark_named
from tasks.engine.files import read_json, write_json
from tasks.figures.scores import by_question, scores_of, values_of

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule

FILE = "compared.json"


@dataclass(frozen=True)
class Compared:
    """The module's figure and the prompt's on the evaluation questions; ahead: module less prompt on the search questions.

    numbers: count of the module's parameters; dead: whether no gate opened on any training token.
    """

    module: Figure
    prompt: Figure
    ahead: float
    numbers: int
    dead: bool

    def write(self, folder: Path) -> None:
        """Write it into a cell's folder, with the resampled values."""
        figures = {
            name: {**vars(one), "samples": one.samples.tolist()}
            for name, one in (("module", self.module), ("prompt", self.prompt))
        }
        write_json(folder / FILE, {**vars(self), **figures})


def read_compared(folder: Path) -> Compared:
    """What `Compared.write` wrote."""
    values = read_json(folder / FILE)
    for name in ("module", "prompt"):
        values[name] = Figure(**{**values[name], "samples": np.array(values[name]["samples"], dtype=np.float64)})
    return Compared(**values)


def compare(
    module: SteeringModule, dead: bool, searched: Asking, evaluated: Asking, settings: Mapping[str, Any]
) -> Compared:
    """Compare the module with the prompt on the questions of the search and the evaluation, answered unsteered before.

    settings: the profile's parameters.
    """
    bootstrap, grid = settings["results"], settings["search"]
    trait, coherence = prompted(searched)
    if searched.pairs[0].attribute.startswith("ifeval/"):
        search_scores, scores, row = steered(searched, module, (1.0,)), steered(evaluated, module, (1.0,)), 0
        figure = replace(plain_mean(scores.trait[0], scores.coherence[0], **bootstrap), alpha=1.0)
    else:
        search_scores = search(
            lambda alphas: steered(searched, module, alphas), coherence,
            coarse=grid["alphas"], alpha_max=grid["alpha_max"], refine=grid["refine"],
        )  # fmt: skip
        options = candidates(search_scores, coherence, resamples=grid["resamples"], seed=grid["seed"])
        scores = steered(evaluated, module, sorted({0.0, *(one.alpha for one in options if one.point == "Cp")}))
        figure = matched(search_scores, coherence, scores, "Cp", **bootstrap)
        row = int(choose_at("Cp", search_scores, coherence).row[0])
    ahead = float(np.nanmean(search_scores.trait[row]) - np.nanmean(trait))
    numbers = sum(tensor.numel() for tensor in module.tensors.values())
    return Compared(figure, plain_mean(*prompted(evaluated), **bootstrap), ahead, numbers, dead)


def prompted(asking: Asking) -> tuple[Array, ...]:
    """The prompt's trait (or accuracy) and coherence, [question] each."""
    values, completions = values_of(asking.judgements), [c for c in asking.completions if c.method == INSTRUCTED]
    return tuple(by_question(completions, values, name, asking.pairs) for name in _dimensions(asking))


def steered(asking: Asking, module: SteeringModule, alphas: Sequence[float]) -> Scores:
    """The module's scores at these alphas; alpha 0 is the unsteered model, bit-exact."""
    plain = [c for c in asking.completions if c.method == PLAIN and 0 in alphas]
    completions = [*plain, *asking.steered(module, alphas)]
    return scores_of(completions, values_of(asking.judgements), asking.pairs, _dimensions(asking))


def _dimensions(asking: Asking) -> tuple[str, str]:
    benchmark = benchmark_named(asking.pairs[0].attribute.partition("/")[0])
    return benchmark.asked, benchmark.sense
