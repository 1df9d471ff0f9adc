"""The ablation through the real model at a tiny scale: who answers what, which questions choose, what is looked up again."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import psr
from psr.errors import PsrError
from psr.evaluation.side_effects import EqualStrength
from psr.types import short_hash
from tasks.asking.models import ModelSettings
from tasks.engine.cells import Cells
from tasks.engine.lockfiles import code_of
from tasks.steps.distill import VERSION
from tasks.studies import CODE
from tasks.studies.ablation import figures
from tasks.studies.ablation import study as studying
from tasks.studies.ablation.material import subjects, wanted_attributes
from tasks.studies.ablation.study import Study
from tasks.studies.ablation.table import store
from tasks.studies.ablation.unrelated import drawn, unrelated_questions
from tasks.studies.ablation.variants import parse_variant

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "benchmarks": [{"name": "persona", "path": str(ROOT / "data/testbed/persona"), "attributes": ("pirate",)}],
    "judge": {"name": "testbed"},
    "sampling": {"temperature": 1.0, "max_new_tokens": 48},
    "complete": {"questions": 4, "instructions": 1, "samples": 1, "seed": 1, "batch_size": 64},
    "select": {"min_trait": 0.5, "min_coherence": 0.5, "limit": 4},
    "distill": {"preset": "fast", "epochs": 2, "batch_size": 2, "lr": 0.02},
    "search": {
        "questions": 2,
        "samples": 1,
        "alphas": (0, 1),
        "alpha_max": 2,
        "refine": (),
        "resamples": 10,
        "seed": 2,
        "batch_size": 64,
    },
    "steer": {"questions": 3, "samples": 1, "seed": 5, "batch_size": 64},
    "results": {"resamples": 10, "seed": 4},
}
NAMES = ("pirate", "ifeval/change_case:english_lowercase")
VARIANTS = tuple(parse_variant(name) for name in ("s-psr2-kl-qr@4+delta", "s-psr-mse-r@4"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("ablation")
    model, cells = (
        ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1),
        Cells(folder / ".psr/cells", "1"),
    )
    found = subjects(folder / "none", SETTINGS, wanted_attributes(SETTINGS, NAMES), model, cells)
    return Study(found, SETTINGS, model, (1, 2), cells)


@pytest.fixture(scope="module")
def rows(study: Study) -> list[dict[str, Any]]:
    return list(study.rows(VARIANTS))


def test_attributes_of_no_profile_get_the_triplets_that_its_stages_would_make(study):
    for subject in study.subjects:
        assert 1 <= len(subject.material.triplets) <= 4
        assert {t.pair.question for t in subject.material.triplets} <= set(subject.attribute.questions)
        assert not {p.question for p in subject.search} & {p.question for p in subject.evaluate}


def test_a_row_a_variant_and_attribute_is_the_mean_over_seeds(rows):
    assert [(row["variant"], row["attribute"]) for row in rows] == [
        (variant.name, key)
        for variant in VARIANTS
        for key in ("persona/pirate", "ifeval/change_case:english_lowercase")
    ]
    for row in rows:
        assert (row["seeds"], row["n"], row["n_unscored"], row["model"] != "") == (2, 6, 0, True)
        assert row["ahead"] == pytest.approx(row["value"] - row["prompt"])
        assert row["ahead_low"] - 1e-9 <= row["ahead"] <= row["ahead_high"] + 1e-9
    assert [row["numbers"] for row in rows] == [2 * 257] * 2 + [257] * 2
    assert [row["alpha"] for row in rows if row["benchmark"] == "ifeval"] == [1.0, 1.0]


def test_drift_is_that_of_the_module_that_was_fitted_at_the_alpha_that_equals_the_prompt(study, monkeypatch, tmp_path):
    """The steered forward, its KL and their means, written out with psr.steer and torch for one module of each kind of row."""
    fitted: dict[str, Any] = {}
    fit = studying.fit_jointly
    monkeypatch.setattr(studying, "fit_jointly", lambda fits, label: fitted.setdefault(label, fit(fits, label)))
    choice = EqualStrength(1.25, 0.0, 0.0, True)
    monkeypatch.setattr(figures, "search_equal", lambda evaluate, scores, effect, coherence: (scores, choice))
    alone = replace(study, cells=Cells(tmp_path / "cells", "1"), seeds=(1,), subjects=study.subjects[:1])
    rows = list(alone.rows([parse_variant(f"a-psr-mse-qr/2{more}") for more in ("", "+negatives", "+keep0.5")]))
    assert [(row["triplets"], row["negatives"], row["keep"]) for row in rows] == [
        (2, 0, None),
        (2, 2, 0.0),
        (2, 2, 0.5),
    ]
    assert [row["alpha_equal"] for row in rows] == [1.25] * 3
    lm, tokens = study.subjects[0].material.lm, study.subjects[0].unrelated.tokens
    for row, (module,) in zip(rows, (list(made.values()) for made in fitted.values()), strict=True):
        assert module.module.origin["settings"]["keep"] == (row["keep"] or 0.0)
        nats = {"drift": 0.0, "prompt_drift": 0.0}
        for one in tokens:
            plain, instructed = (torch.tensor([ids]) for ids in (one.plain_ids, one.instructed_ids))
            before, prompted = (lm.model(ids).logits[0, -one.response - 1 : -1] for ids in (plain, instructed))
            with psr.steer(lm.model, module.module, row["alpha_equal"], lm.tokenizer, start=one.plain_start):
                after = lm.model(plain).logits[0, -one.response - 1 : -1]
            for name, changed in (("drift", after), ("prompt_drift", prompted)):
                kl = F.kl_div(changed.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum")
                nats[name] += float(kl)
        for name, total in nats.items():
            assert row[name] == pytest.approx(total / sum(one.response for one in tokens), rel=1e-3, abs=1e-5)
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["drift_more"] == pytest.approx(row["drift"] - row["prompt_drift"])
    assert len({row["drift"] for row in rows}) == 3


def test_unrelated_questions_are_neither_fitted_searched_nor_evaluated_on_and_each_half_has_one_use(study):
    for subject in study.subjects:
        negatives = {pair.question for pair, _ in subject.unrelated.negatives(100)}
        asked = subject.unrelated.questions
        assert negatives == set(asked.fitting)
        used = {p.question for p in (*subject.search, *subject.evaluate, *(t.pair for t in subject.material.triplets))}
        assert not {question for side in asked for question in side} & used
        assert len(subject.unrelated.tokens) == len(asked.search) + len(asked.evaluate) >= 12
        assert not negatives & {*asked.search, *asked.evaluate}


def test_where_a_file_has_no_other_questions_the_everyday_ones_are_asked():
    attribute = replace(wanted_attributes(SETTINGS, NAMES[:1])[0], search=("How do I make compost?",))
    own = unrelated_questions(attribute, attribute.questions[:40])
    assert {q for side in own for q in side} == set(attribute.questions[40:])
    everyday = unrelated_questions(attribute, attribute.questions)
    assert [len(side) for side in everyday] in ([59, 30, 30], [60, 29, 30], [60, 30, 29])  # one is a search question
    many = replace(attribute, questions=tuple(f"Question {i}?" for i in range(1000)))
    assert [len(side) for side in unrelated_questions(many, ())] == [60, 30, 30]


def test_a_seed_draws_its_own_triplets_and_a_larger_number_holds_a_smaller_ones(study):
    subject = study.subjects[0]
    material, count = subject.material, len(subject.material.triplets)
    draws = {
        n: [{t.id for t in drawn(material, subject.unrelated, n, seed, False).triplets} for seed in range(8)]
        for n in range(1, count + 1)
    }
    assert all(len(ids) == n for n, sets in draws.items() for ids in sets)
    assert all(less <= more for n in range(1, count) for less, more in zip(draws[n], draws[n + 1], strict=True))
    assert len({frozenset(ids) for ids in draws[1]}) > 1
    assert drawn(material, subject.unrelated, None, 0, False) is material
    with pytest.raises(PsrError, match=rf"not as many triplets.*persona/pirate.*expected 1 to {count}, got 99"):
        list(study.rows([parse_variant("a-psr-mse-qr"), parse_variant("a-psr-mse-qr/99")]))


def test_ids_are_as_before_where_there_are_no_negatives(study):
    """A module without negatives is found again; one with other negatives, or another weight, is another."""
    subject = study.subjects[0]
    fits = {}
    for name in ("a-psr-mse-qr", "a-psr-mse-qr+negatives", "a-psr-mse-qr+keep", "a-psr-mse-qr+keep0.5"):
        fits[name] = study._fit_of(parse_variant(name), subject, 1)
    assert len({fit.id for fit in fits.values()}) == len(fits)
    plain = fits["a-psr-mse-qr"]
    settings = {name: value for name, value in asdict(plain.settings).items() if name != "keep"}
    sources = [t.id for t in subject.material.triplets]
    assert plain.id == short_hash(
        "module",
        VERSION,
        "persona/pirate",
        "a-psr-mse-qr",
        plain.layers,
        settings,
        sources,
        subject.material.lm.fingerprint,
    )


def test_what_was_measured_is_looked_up(study, rows, monkeypatch):
    monkeypatch.setattr(studying, "fit_jointly", lambda *_: pytest.fail("fitted again"))
    assert list(study.rows(VARIANTS)) == rows
    with pytest.raises(pytest.fail.Exception):  # other seeds are other rows
        list(replace(study, seeds=(1, 3)).rows(VARIANTS[:1]))


def test_a_killed_run_goes_on_with_the_modules_that_it_has_not_measured(study, rows, monkeypatch, tmp_path):
    fitted: list[list[int | None]] = []
    compare, fit = studying.compare, studying.fit_jointly

    def killed(*arguments: Any) -> Any:
        if len(list(tmp_path.glob("cells/ablation/[!.]*"))) == 1:
            raise KeyboardInterrupt
        return compare(*arguments)

    def counted(fits: Any, label: str) -> Any:
        fitted.append([one.seed for one in fits])
        return fit(fits, label)

    monkeypatch.setattr(studying, "fit_jointly", counted)
    monkeypatch.setattr(studying, "compare", killed)
    again = replace(study, cells=Cells(tmp_path / "cells", "1"), subjects=study.subjects[:1])
    with pytest.raises(KeyboardInterrupt):
        list(again.rows(VARIANTS[:1]))
    monkeypatch.setattr(studying, "compare", compare)
    (row,) = again.rows(VARIANTS[:1])
    assert fitted == [[1, 2], [2]]
    assert {name: row[name] for name in ("value", "ahead", "alpha")} == pytest.approx(
        {name: rows[0][name] for name in ("value", "ahead", "alpha")}
    )


def test_the_search_and_the_figures_ask_different_questions(study, monkeypatch, tmp_path):
    asked: dict[str, set[str]] = {"search": set(), "steer": set()}
    real = Study.asking

    def watched(self: Study, subject: Any, section: str, seed: int) -> Any:
        made = real(self, subject, section, seed)
        asked[section] |= {pair.question for pair in made.pairs}
        return made

    monkeypatch.setattr(Study, "asking", watched)
    list(replace(study, cells=Cells(tmp_path / "cells", "1"), seeds=(1,)).rows(VARIANTS[1:]))
    assert asked["search"] == {pair.question for subject in study.subjects for pair in subject.search}
    assert asked["steer"] == {pair.question for subject in study.subjects for pair in subject.evaluate}
    assert not asked["search"] & asked["steer"]


def test_rows_are_what_the_table_holds(rows, tmp_path):
    kept = store(tmp_path, rows)
    assert [row["ahead"] for row in kept] == [None if np.isnan(row["ahead"]) else row["ahead"] for row in rows]


def test_an_edit_of_any_code_in_the_folders_is_another_version(tmp_path):
    for name in ("psr/lm", "tasks/steps", "tasks/shown"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.py").write_text("1")
    before = code_of(tmp_path, "psr", "tasks/steps")
    (tmp_path / "tasks/shown/a.py").write_text("2")
    assert code_of(tmp_path, "psr", "tasks/steps") == before
    (tmp_path / "psr/lm/a.py").write_text("2")
    assert code_of(tmp_path, "psr", "tasks/steps") != before
    assert all((ROOT / name).is_dir() for name in CODE)
