"""The rows of the ablation: a variant's modules, fitted for all attributes and seeds in one pass, and means over seeds.

ahead: the module's figure less the prompt's, paired by question and seed, with its interval; drift_more: likewise of drift at
the prompt's effect, paired by answer and seed. A module's figures are a cell, so that a killed run continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.answers.pairs import sampling_seeds
from psr.errors import PsrError
from psr.evaluation.bootstrap import Figure, Interval, over_seeds, paired
from psr.fitting.methods.named import plug_of
from psr.fitting.presets import package
from tasks.asking.answers import Answerer
from tasks.asking.models import ModelSettings
from tasks.asking.repetition import Asking
from tasks.engine.cells import Cells
from tasks.engine.progress import progress
from tasks.steps.distill import Fit, Material, fit_settings
from tasks.studies.ablation.figures import Compared, compare, read_compared
from tasks.studies.ablation.material import Subject
from tasks.studies.ablation.unrelated import check_triplets, drawn
from tasks.studies.ablation.variants import Variant

if TYPE_CHECKING:
    from psr.fitting.loop import Fitted

SECTIONS = ("search", "steer")  # sections of the parameters for the search and the evaluation questions
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """The ablation on some subjects. settings: the profile's parameters; seeds: of fits, each with its own answers."""

    subjects: Sequence[Subject]
    settings: Mapping[str, Any]
    model: ModelSettings
    seeds: tuple[int, ...]
    cells: Cells

    def rows(self, variants: Sequence[Variant]) -> Iterator[Row]:
        """The rows of every variant on every attribute, in order. Raises PsrError where there are fewer triplets than a variant wants."""
        for variant in variants:
            for subject in self.subjects:
                check_triplets(subject.material, variant.triplets)
        for variant in variants:
            for benchmark, group in groupby(self.subjects, key=lambda subject: subject.benchmark):
                yield from self._measured(variant, benchmark, list(group))

    def _measured(self, variant: Variant, benchmark: str, group: Sequence[Subject]) -> Iterator[Row]:
        """The group's rows; modules without a finished cell are fitted in one pass."""
        members = [(one, seed, self._fit_of(variant, one, seed)) for one in group for seed in self.seeds]
        todo = [member[2] for member in members if self.cells.find("ablation", self._reads(*member)) is None]
        fitted = fit_jointly(todo, f"fit {variant.name}, {len(todo)} modules of {benchmark}") if todo else {}
        for subject, group_members in groupby(members, key=lambda member: member[0]):
            own = list(group_members)
            yield row_of(variant, subject, own[0][2].material, [self._compared(*member, fitted) for member in own])

    def _compared(self, subject: Subject, seed: int, fit: Fit, fitted: Mapping[str, Fitted]) -> Compared:
        def write(folder: Path) -> None:
            one = fitted[fit.id]
            searched, evaluated = (self.asking(subject, section, seed) for section in SECTIONS)
            compare(one.module, one.dead, searched, evaluated, subject.unrelated, self.settings).write(folder)

        return read_compared(self.cells.keep("ablation", self._reads(subject, seed, fit), write))

    def _fit_of(self, variant: Variant, subject: Subject, seed: int) -> Fit:
        changes = {**self.settings["distill"], "seed": seed}
        settings = fit_settings(plug_of(variant.method), changes, package(subject.benchmark))
        settings = replace(settings, init="delta") if settings and variant.warm else settings
        settings = replace(settings, keep=variant.keep) if settings and variant.keep else settings
        order = seed if variant.triplets else 0  # each seed draws its own triplets, where not all are taken
        material = drawn(subject.material, subject.unrelated, variant.triplets, order, variant.keep is not None)
        return Fit(material, variant.method, variant.layers(material.lm.n_layers), settings, seed)

    def _reads(self, subject: Subject, seed: int, fit: Fit) -> tuple[object, ...]:
        questions = [(self._sampled(name, seed), [pair.id for pair in subject.pairs(name)]) for name in SECTIONS]
        settings = [self.settings[name] for name in ("sampling", *SECTIONS, "results")]
        judge = (subject.judge.id, subject.judge.rubric)
        return self.model.reads, fit.id, fit.material.content, judge, questions, settings, subject.unrelated.content

    def _sampled(self, section: str, seed: int) -> tuple[int, ...]:
        section_settings = self.settings[section]
        return sampling_seeds(self.seeds, section_settings["seed"], section_settings["samples"])[seed]

    def asking(self, subject: Subject, section: str, seed: int) -> Asking:
        """The questions of `section`, answered without and with the prompt, with the sampling seeds of the fit seed."""
        batch_size = self.settings[section]["batch_size"]
        answerer = Answerer(self.model, self.cells, **self.settings["sampling"], batch_size=batch_size)
        sampled = self._sampled(section, seed)
        asking = Asking(answerer, subject.judge, f"{section} {subject.key}", subject.pairs(section), sampled)
        asking.unsteered()
        return asking


def fit_jointly(fits: Sequence[Fit], label: str) -> Mapping[str, Fitted]:
    """Fit.id -> its module and curve; all fits of one method. Raises Diverged where one became not finite."""
    from psr.fitting.joint import fit_many
    from psr.fitting.loop import Diverged

    first = fits[0]
    if first.settings is None:
        raise PsrError("the ablation varies what is fitted by gradients", got=first.method.slug)
    examples = {material: material.examples(first.method) for material in dict.fromkeys(fit.material for fit in fits)}
    total = first.settings.epochs * sum(len(examples[fit.material]) for fit in fits)
    with progress(label, total, "examples") as advance:
        fitted = fit_many(
            first.material.lm, {fit.id: examples[fit.material] for fit in fits}, first.method, first.layers,
            first.settings, seeds={fit.id: fit.seed or 0 for fit in fits}, progress=advance,
        )  # fmt: skip
    for one in fitted.values():
        if isinstance(one, Diverged):
            raise one
    return fitted  # type: ignore[return-value]


def row_of(variant: Variant, subject: Subject, material: Material, measured: Sequence[Compared]) -> Row:
    """A row of means over seeds. ahead_search: the difference on the search questions, by which settings are chosen."""

    def mean(name: str) -> Figure:
        return over_seeds([getattr(one, name) for one in measured])

    figure, prompt, equal = mean("module"), mean("prompt"), mean("equal")
    at_80 = None if measured[0].at_80 is None else mean("at_80")
    ahead, drift, prompt_drift = paired(figure, prompt), mean("drift"), mean("prompt_drift")
    return {
        "benchmark": subject.benchmark,
        "attribute": subject.key,
        "variant": variant.name,
        "name": variant.method.name,
        "rank": variant.rank,
        "objective": variant.method.objective,
        "span": variant.method.span,
        "layer": variant.layer,
        "warm": variant.warm,
        "numbers": measured[0].numbers,
        "alpha": figure.alpha,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "coherence": figure.coherence,
        "reached": figure.reached,
        "prompt": prompt.value,
        "prompt_coherence": prompt.coherence,
        "ahead": ahead.value,
        "ahead_low": ahead.low,
        "ahead_high": ahead.high,
        "ahead_search": float(np.mean([one.ahead for one in measured])),
        "dead": sum(one.dead for one in measured),
        "keep": variant.keep,
        **_interval("value_c80", at_80),
        "alpha_c80": None if at_80 is None else at_80.alpha,
        "coherence_c80": None if at_80 is None else at_80.coherence,
        "alpha_equal": equal.alpha,
        "equal": sum(one.equal.reached for one in measured),
        "value_equal": equal.value,
        "coherence_equal": equal.coherence,
        **_interval("ahead_equal", paired(equal, prompt)),
        **_interval("drift", drift),
        **_interval("prompt_drift", prompt_drift),
        **_interval("drift_more", paired(drift, prompt_drift)),
        "drift_answers": len(subject.unrelated.tokens),
        "triplets": len(material.triplets),
        "negatives": len(material.negatives),
        "n": figure.n,
        "n_unscored": figure.n_unscored,
        "seeds": len(measured),
        "model": subject.material.lm.fingerprint,
    }


def _interval(name: str, one: Figure | Interval | None) -> Row:
    value, low, high = (None, None, None) if one is None else (one.value, one.low, one.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
