"""One module's figure beside the prompt's, on the same questions with the same random numbers.

trait               alpha as in TA@Cp, chosen on the search questions; trait alignment on the evaluation's
format instruction  alpha 1; strict accuracy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.answers.pairs import sampling_seeds
from psr.evaluation.alpha_search import Scores, candidates, choose_at, search
from psr.evaluation.bootstrap import Figure, matched, plain_mean
from psr.evaluation.resampling import Array
from psr.judges.dimensions import asked_and_sense
from psr.types import INSTRUCTED, PLAIN
from tasks.asking.models import ModelPlace
from tasks.asking.repetition import Asking
from tasks.engine.scratch import Scratch
from tasks.figures.scores import by_question, scores_of, values_of
from tasks.studies.ablation.material import Subject

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule


@dataclass(frozen=True)
class Compared:
    """The module's figure and the prompt's on the evaluation questions; ahead: module less prompt on the search questions."""

    module: Figure
    prompt: Figure
    ahead: float


@dataclass(frozen=True)
class Side:
    """One set of an attribute's questions, asked with one seed's own random numbers. The unsteered answers are there."""

    subject: Subject
    asking: Asking

    def prompted(self) -> tuple[Array, Array]:
        """The prompt's trait (or accuracy) and coherence, [question] each."""
        values, made = values_of(self.asking.judgements), [c for c in self.asking.completions if c.method == INSTRUCTED]
        trait, coherence = (
            by_question(made, values, name, self.asking.pairs) for name in asked_and_sense(self.subject.key)
        )
        return trait, coherence

    def steered(self, module: SteeringModule, alphas: Sequence[float]) -> Scores:
        """The module's scores at these alphas; alpha 0 is the unsteered model, bit-exact."""
        plain = [c for c in self.asking.completions if c.method == PLAIN and 0 in alphas]
        made = [*plain, *self.asking.steered(module, alphas)]
        return scores_of(made, values_of(self.asking.judgements), self.asking.pairs, asked_and_sense(self.subject.key))


def side(
    subject: Subject,
    section: str,
    seed: int,
    seeds: Sequence[int],
    told: Mapping[str, Any],
    model: ModelPlace,
    scratch: Scratch,
    kept: Scratch,
) -> Side:
    """The questions of `section` ("search" or "steer") for the fit seed `seed` of `seeds`.

    told: the profile's parameters. kept: where the unsteered answers stay for every module; scratch: for this one's.
    """
    asked, sampling = told[section], told["sampling"]
    pairs = subject.search if section == "search" else subject.evaluate
    asking = Asking(
        model,
        subject.judge,
        kept.within(f"{section}-{subject.key}-{seed}"),
        f"{section} {subject.key}",
        pairs,
        sampling_seeds(seeds, asked["seed"], asked["samples"])[seed],
        sampling["temperature"],
        sampling["max_new_tokens"],
        asked["batch_size"],
    )
    asking.unsteered()
    asking.scratch = scratch.within(f"{section}-{subject.key}-{seed}")
    return Side(subject, asking)


def compare(looking: Side, taking: Side, module: SteeringModule, told: Mapping[str, Any]) -> Compared:
    """The module against the prompt. looking: on the search questions; taking: on the evaluation's."""
    bootstrap = told["results"]
    trait, coherence = looking.prompted()
    if looking.subject.benchmark == "ifeval":
        looked, taken, row = looking.steered(module, (1.0,)), taking.steered(module, (1.0,)), 0
        figure = replace(plain_mean(taken.trait[0], taken.coherence[0], **bootstrap), alpha=1.0)
    else:
        looked, alphas = searched(looking, coherence, module, told["search"])
        figure = matched(looked, coherence, taking.steered(module, alphas), "Cp", **bootstrap)
        row = int(choose_at("Cp", looked, coherence).row[0])
    ahead = float(np.nanmean(looked.trait[row]) - np.nanmean(trait))
    return Compared(figure, plain_mean(*taking.prompted(), **bootstrap), ahead)


def searched(
    looking: Side, coherence: Array, module: SteeringModule, told: Mapping[str, Any]
) -> tuple[Scores, tuple[float, ...]]:
    """The search's scores, and 0 with every alpha that it or one of its resamples chooses at the prompt's coherence.

    coherence: the prompt's, [question]; told: the section `search` of the parameters.
    """
    scores = search(
        lambda alphas: looking.steered(module, alphas),
        coherence,
        coarse=told["alphas"],
        alpha_max=told["alpha_max"],
        refine=told["refine"],
    )
    found = candidates(scores, coherence, resamples=told["resamples"], seed=told["seed"])
    return scores, tuple(sorted({0.0, *(one.alpha for one in found if one.point == "Cp")}))
