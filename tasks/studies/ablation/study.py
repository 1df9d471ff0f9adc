"""The rows of the ablation: a module for every attribute and seed of a variant in one pass, and its means over seeds.

ahead: the module's figure less the prompt's, question by question and seed by seed, with its interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psr.errors import PsrError
from psr.evaluation.bootstrap import over_seeds, paired
from psr.types import Attribute, Example, short_hash
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.progress import progress
from tasks.engine.scratch import Scratch, remove, scratch_of
from tasks.steps.distill import fit_settings
from tasks.studies.ablation.figures import Compared, compare, side
from tasks.studies.ablation.material import Subject, subjects
from tasks.studies.ablation.variants import Variant
from tasks.tables.parquet import read_table, write_table

if TYPE_CHECKING:
    from psr.fitting.loop import Fitted
    from psr.fitting.presets import FitSettings
    from psr.lm.models import LanguageModel

MEASURED_BY = ("sampling", "complete", "select", "distill", "search", "steer", "results")  # sections of the parameters
VERSION = 1  # of what a row means: kept rows of another version are measured again
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """Where and how everything is measured. told: the profile's parameters; seeds: of fits, each with its own answers."""

    subjects: Sequence[Subject]
    told: Mapping[str, Any]
    model: ModelPlace
    seeds: tuple[int, ...]
    scratch: Scratch

    @property
    def lm(self) -> LanguageModel:
        return open_model(self.model)

    def rows(self, variants: Sequence[Variant]) -> Iterator[Row]:
        """Every variant on every attribute, in order; what an earlier run with the same material measured is looked up."""
        for variant in variants:
            todo = [subject for subject in self.subjects if self.scratch.get(self._item(variant, subject)) is None]
            for benchmark, group in groupby(todo, key=lambda subject: subject.benchmark):
                self._measure(variant, benchmark, list(group))
            remove(self._answers(variant).folder)
            for subject in self.subjects:
                path = self.scratch.get(self._item(variant, subject))
                yield from read_table(path, "ablation") if path else ()

    def _measure(self, variant: Variant, benchmark: str, group: Sequence[Subject]) -> None:
        fitted = self._fit(variant, benchmark, group)
        for subject in group:
            own = {seed: fitted[subject.key, seed] for seed in self.seeds}
            row = self._row(
                variant, subject, own, {seed: self._compared(variant, subject, seed, one) for seed, one in own.items()}
            )
            self.scratch.put(self._item(variant, subject), partial(write_table, name="ablation", rows=[row]))

    def _item(self, variant: Variant, subject: Subject) -> str:
        return f"row-{short_hash(VERSION, variant.name, subject.key, [t.id for t in subject.triplets], self.seeds)}"

    def _answers(self, variant: Variant) -> Scratch:
        return self.scratch.within(f"answers-{variant.name}")

    def _fit(self, variant: Variant, benchmark: str, group: Sequence[Subject]) -> dict[tuple[str, int], Fitted]:
        """(attribute, seed) -> the module and its curve. Raises Diverged for a fit that left the finite numbers."""
        from psr.fitting.joint import fit_many
        from psr.fitting.loop import Diverged

        settings, own = self._settings(variant, benchmark), {one.key: self._examples(one, variant) for one in group}
        ids = {
            self._module_id(variant, subject, seed, settings): (subject.key, seed)
            for subject in group
            for seed in self.seeds
        }
        total = settings.epochs * sum(len(own[key]) for key, _ in ids.values())
        with progress(f"fit {variant.name}, {len(ids)} modules of {benchmark}", total, "examples") as advance:
            fitted = fit_many(
                self.lm,
                {id: own[key] for id, (key, _) in ids.items()},
                variant.method,
                variant.layers(self.lm.n_layers),
                settings,
                seeds={id: seed for id, (_, seed) in ids.items()},
                progress=advance,
            )
        found = {}
        for id, one in fitted.items():
            if isinstance(one, Diverged):
                raise one
            found[ids[id]] = one
        return found

    def _settings(self, variant: Variant, benchmark: str) -> FitSettings:
        settings = fit_settings(variant.method, {**self.told["distill"], "seed": self.seeds[0]}, benchmark)
        if settings is None:
            raise PsrError("the ablation varies what is fitted by gradients", got=variant.name)
        return replace(settings, init="delta") if variant.warm else settings

    def _module_id(self, variant: Variant, subject: Subject, seed: int, settings: FitSettings) -> str:
        told = asdict(replace(settings, seed=seed))
        return short_hash(
            "ablation", VERSION, variant.name, subject.key, told, [t.id for t in subject.triplets], self.lm.fingerprint
        )

    def _examples(self, subject: Subject, variant: Variant) -> list[Example]:
        from psr.lm.alignment import align

        return [
            Example(align(self.lm.tokenizer, t.pair, t.completion.token_ids, variant.method.span), t.trait)
            for t in subject.triplets
        ]

    def _compared(self, variant: Variant, subject: Subject, seed: int, fitted: Fitted) -> Compared:
        kept = self.scratch.within("unsteered")
        looking, taking = (
            side(subject, section, seed, self.seeds, self.told, self.model, self._answers(variant), kept)
            for section in ("search", "steer")
        )
        return compare(looking, taking, fitted.module, self.told)

    def _row(
        self, variant: Variant, subject: Subject, fitted: Mapping[int, Fitted], found: Mapping[int, Compared]
    ) -> Row:
        """The means over seeds; `ahead_search` is what was seen on the search questions alone, by which settings are chosen."""
        figure, prompt = (over_seeds([getattr(one, name) for one in found.values()]) for name in ("module", "prompt"))
        ahead, tensors = paired(figure, prompt), fitted[self.seeds[0]].module.tensors
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
            "numbers": sum(tensor.numel() for tensor in tensors.values()),
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
            "ahead_search": float(np.mean([one.ahead for one in found.values()])),
            "dead": sum(one.dead for one in fitted.values()),
            "triplets": len(subject.triplets),
            "n": figure.n,
            "n_unscored": figure.n_unscored,
            "seeds": len(found),
            "model": self.lm.fingerprint,
        }


def study_of(
    root: Path,
    data: Path,
    told: Mapping[str, Any],
    attributes: Sequence[Attribute],
    model: ModelPlace,
    seeds: tuple[int, ...],
) -> Study:
    """The study of `attributes` under the parameters `told` of the profile in `data`; what it measures is kept under `root`."""
    key = short_hash("ablation", VERSION, {name: told[name] for name in MEASURED_BY}, open_model(model).fingerprint)
    scratch = scratch_of(root, f"ablation-{data.name}", key)
    return Study(subjects(data, told, attributes, model, scratch), told, model, seeds, scratch)
