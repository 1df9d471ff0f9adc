"""The figures of a module and of the prompt, on the same questions with the same random numbers.

trait               alpha as in TA@Cp, chosen on the search questions; trait alignment on the evaluation's
format instruction  alpha 1; strict accuracy
drift               at the α that equals the prompt's effect on the search questions (psr/evaluation/side_effects.py), whose
                    effect on the evaluation questions stands beside it; the prompt's drift on the same answers
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.evaluation.alpha_search import Scores, candidates, choose_at, search
from psr.evaluation.bootstrap import Figure, matched, plain_mean
from psr.evaluation.resampling import Array
from psr.evaluation.side_effects import search_equal
from psr.types import INSTRUCTED, PLAIN
from tasks.asking.repetition import Asking
from tasks.benchmarks.catalogue import benchmark_named
from tasks.engine.files import read_json, write_json
from tasks.figures.scores import by_question, scores_of, values_of
from tasks.studies.ablation.unrelated import Unrelated, drift_figure

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule

FILE = "compared.json"


@dataclass(frozen=True)
class Compared:
    """The module's figure and the prompt's on the evaluation questions; ahead: module less prompt on the search questions.

    at_80: TA@C80, of a trait; equal: the module's figure at the α that equals the prompt's effect (reached: whether any does);
    drift, prompt_drift: nats a token on unrelated answers, the module's at that α. numbers: count of the module's parameters;
    dead: whether no gate opened on any training token.
    """

    module: Figure
    prompt: Figure
    at_80: Figure | None
    equal: Figure
    drift: Figure
    prompt_drift: Figure
    ahead: float
    numbers: int
    dead: bool

    def write(self, folder: Path) -> None:
        """Write it into a cell's folder, with the resampled values."""
        figures = {
            name: {**vars(one), "samples": one.samples.tolist()}
            for name, one in vars(self).items()
            if isinstance(one, Figure)
        }
        write_json(folder / FILE, {**vars(self), **figures})


def read_compared(folder: Path) -> Compared:
    """What `Compared.write` wrote."""
    values = read_json(folder / FILE)
    for name, one in values.items():
        if isinstance(one, dict):
            values[name] = Figure(**{**one, "samples": np.array(one["samples"], dtype=np.float64)})
    return Compared(**values)


def compare(
    module: SteeringModule,
    dead: bool,
    searched: Asking,
    evaluated: Asking,
    unrelated: Unrelated,
    settings: Mapping[str, Any],
) -> Compared:
    """Compare the module with the prompt on the questions of the search and the evaluation, answered unsteered before.

    unrelated: what drift is measured on; settings: the profile's parameters.
    """
    bootstrap, grid = settings["results"], settings["search"]
    trait, coherence = prompted(searched)
    if searched.pairs[0].attribute.startswith("ifeval/"):
        first, at_80 = {1.0}, set[float]()
        search_scores, row = steered(searched, module, first), 0
        curve = steered(searched, module, {0.0, *grid["alphas"], grid["alpha_max"]})
    else:
        curve = search_scores = search(
            lambda alphas: steered(searched, module, alphas), coherence,
            coarse=grid["alphas"], alpha_max=grid["alpha_max"], refine=grid["refine"],
        )  # fmt: skip
        options = candidates(search_scores, coherence, resamples=grid["resamples"], seed=grid["seed"])
        first, at_80 = ({0.0, *(one.alpha for one in options if one.point == point)} for point in ("Cp", "C80"))
        row = int(choose_at("Cp", search_scores, coherence).row[0])
    alpha, reached = 0.0, True  # a prompt without effect is equalled by no steering
    if np.nanmean(trait) > np.nanmean(curve.at((0.0,)).trait):
        _, choice = search_equal(lambda alphas: steered(searched, module, alphas), curve, trait, coherence)
        alpha, reached = choice.alpha, choice.reached
    scores = steered(evaluated, module, first, {*at_80, alpha})
    if at_80:
        figure = matched(search_scores, coherence, scores.at(sorted(first)), "Cp", **bootstrap)
    else:
        figure = replace(plain_mean(scores.at((1.0,)).trait[0], scores.at((1.0,)).coherence[0], **bootstrap), alpha=1.0)
    at = scores.at((alpha,))
    return Compared(
        module=figure,
        prompt=plain_mean(*prompted(evaluated), **bootstrap),
        at_80=matched(search_scores, coherence, scores.at(sorted(at_80)), "C80", **bootstrap) if at_80 else None,
        equal=replace(plain_mean(at.trait[0], at.coherence[0], **bootstrap), alpha=alpha, reached=reached),
        drift=drift_figure(unrelated.module(module, alpha), bootstrap),
        prompt_drift=drift_figure(unrelated.prompt, bootstrap),
        ahead=float(np.nanmean(search_scores.trait[row]) - np.nanmean(trait)),
        numbers=sum(tensor.numel() for tensor in module.tensors.values()),
        dead=dead,
    )


def prompted(asking: Asking) -> tuple[Array, ...]:
    """The prompt's trait (or accuracy) and coherence, [question] each."""
    values, completions = values_of(asking.judgements), [c for c in asking.completions if c.method == INSTRUCTED]
    return tuple(by_question(completions, values, name, asking.pairs) for name in _dimensions(asking))


def steered(asking: Asking, module: SteeringModule, alphas: Collection[float], more: Collection[float] = ()) -> Scores:
    """The module's scores at these alphas, and at more that are asked afterwards; alpha 0 is the unsteered model, bit-exact."""
    plain = [c for c in asking.completions if c.method == PLAIN and 0 in {*alphas, *more}]
    asked = [sorted(alphas), sorted({*more} - {*alphas})]
    completions = [*plain, *(c for some in asked for c in asking.steered(module, some))]
    return scores_of(completions, values_of(asking.judgements), asking.pairs, _dimensions(asking))


def _dimensions(asking: Asking) -> tuple[str, str]:
    benchmark = benchmark_named(asking.pairs[0].attribute.partition("/")[0])
    return benchmark.asked, benchmark.sense
