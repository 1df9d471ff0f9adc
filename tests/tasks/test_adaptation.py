"""What the comparison is made of: which questions, whose random numbers, which strengths; and a small one for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows import params
from psr.answers.completions import Ask, complete
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.steering.adapter import Adapter
from psr.types import INSTRUCTED, PLAIN, Attribute, JudgeItem, Judgement, PromptPair, Verdicts
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.cells import Cells
from tasks.figures.scores import values_of
from tasks.figures.sides import Side
from tasks.shown.studies import adaptation_table, size
from tasks.steps.distill import Material
from tasks.studies.adaptation import adapters
from tasks.studies.adaptation import rows as measuring
from tasks.studies.adaptation.adapters import ALPHAS, answers, scores_of_adapter
from tasks.studies.adaptation.material import Case, load, unrelated_answers, wanted
from tasks.studies.adaptation.rows import chosen_modules, coherence_at, rows_of, stored
from tasks.tables.parquet import read_table, write_table
from tests.psr.families import family
from tests.results_folder import ATTRIBUTES, adaptation_row, write_results
from tests.tasks.test_suite import SEEDS, SETTINGS
from tests.tasks.test_suite import data as mini  # noqa: F401

LM = family("llama")
ASKED: dict[str, Any] = {
    "seeds": (123,),
    "sampling": {"max_new_tokens": 6, "temperature": 1.0},
    "search": {"seed": 7, "samples": 1, "resamples": 20},
    "steer": {"seed": 7, "samples": 1, "batch_size": 4},
    "results": {"resamples": 20, "seed": 1},
}
ROOT = Path(__file__).resolve().parents[2]


class LengthJudge:
    """Trait: the share of the text that is not the letter "a"; coherence: 90 of 100."""

    id, rubric, dimensions = "length", "1", ("trait", "coherence")

    def __call__(self, items):
        trait = {item.completion: 100.0 * (1 - item.text.count("a") / max(len(item.text), 1)) for item in items}
        return Verdicts(
            tuple(
                Judgement(item.completion, self.id, self.rubric, name, value, 100.0)
                for item in items
                for name, value in (("trait", trait[item.completion]), ("coherence", 90.0))
            )
        )


def attribute(name: str, fitted: str, evaluated: str) -> Attribute:
    return Attribute(
        "persona", name, ("Be so.",), ("Be like that.", "Act so."), tuple(fitted), (), tuple(evaluated), ""
    )


def side(name: str, questions: str) -> Side:
    """Plain and instructed answers to one-letter questions."""
    pairs = [PromptPair(f"persona/{name}", question, "Be like that.") for question in questions]
    asks = [Ask(pair, method, 7) for method in (PLAIN, INSTRUCTED) for pair in pairs]
    made = complete(LM, asks, Sampling(6, 1.0))
    judged = LengthJudge()([JudgeItem(c.id, f"persona/{name}", "", c.text) for c in made]).judgements
    return Side(pairs, made, values_of(judged))


def case() -> Case:
    one = side("x", "pq")
    material = Material("persona/x", (), {}, LM)
    return Case(Path(), attribute("x", "ab", "pq"), material, LengthJudge(), one, one, (), ASKED)  # type: ignore[arg-type]


def own_weights(**changed: float) -> Adapter:
    """Full fine-tuning that changed nothing, or scaled some weights."""
    weights = {
        name: one.detach().clone() * changed.get(name.replace(".", "_"), 1.0)
        for name, one in LM.model.named_parameters()
    }
    return Adapter("adapter", "Full", LM.fingerprint, weights)


def test_an_adapter_that_changed_nothing_answers_as_the_plain_model_with_the_same_random_numbers():
    one = case()
    found = answers(one, own_weights(), 0.75, one.search, (7,))
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in one.search.of(PLAIN)]
    assert {(answer.method, answer.alpha) for answer in found} == {("adapter", 0.75)}
    other = answers(one, own_weights(lm_head_weight=-1.0), 1.0, one.search, (7,))
    assert [answer.token_ids for answer in other] != [answer.token_ids for answer in found]


def test_strengths_are_chosen_on_the_search_questions_and_only_candidates_are_evaluated(monkeypatch):
    asked = []
    real = adapters.scored

    def counted(case, adapter, alphas, side, sampled):
        asked.append(tuple(alphas))
        return real(case, adapter, alphas, side, sampled)

    monkeypatch.setattr(adapters, "scored", counted)
    looked, taken = scores_of_adapter(case(), own_weights(lm_head_weight=-1.0))
    assert asked[0] == looked.alphas == (0.0, *ALPHAS)
    assert asked[1] == taken.alphas
    assert taken.alphas[0] == 0
    assert (
        np.nanmax(looked.trait.mean(axis=1))
        == looked.trait.mean(axis=1)[[looked.alphas.index(a) for a in taken.alphas]].max()
    )


def test_unrelated_answers_are_of_questions_that_the_attribute_is_neither_fitted_nor_evaluated_on():
    own, other = side("x", "pq"), side("y", "aqrs")
    found = unrelated_answers(LM, attribute("x", "ab", "pq"), [own, other], own)
    plain = {answer.pair: answer.token_ids for answer in other.of(PLAIN)}
    expected = [plain[pair.id] for pair in other.pairs if pair.question in "rs"]
    assert [one.plain_ids[-one.response :] for one in found] == expected
    assert {one.span for one in found} == {"QR"}
    assert all(len(one.instructed_ids) > len(one.plain_ids) for one in found)
    alone = unrelated_answers(LM, attribute("x", "ab", "pq"), [own], own)
    assert [one.plain_ids[-one.response :] for one in alone] == [answer.token_ids for answer in own.of(PLAIN)]


def test_coherence_repeats_the_choice_of_the_traits_alpha():
    from psr.evaluation.alpha_search import Scores

    one = case()
    prompt = one.search.mean(INSTRUCTED, "coherence")  # 90
    looked = Scores(
        (0.0, 1.0, 2.0), np.array([[0.0] * 2, [50.0] * 2, [99.0] * 2]), np.array([[95.0] * 2, [91.0] * 2, [60.0] * 2])
    )
    taken = Scores((0.0, 1.0, 2.0), looked.trait, np.array([[96.0] * 2, [80.0, 90.0], [61.0] * 2]))
    found = coherence_at(one, looked, taken)
    assert prompt.tolist() == [90.0, 90.0]
    assert (found.alpha, found.value, found.low, found.high) == (1.0, 85.0, 80.0, 90.0)


def test_what_is_stored_is_read_and_what_is_missing_is_named(tmp_path):
    one = replace(case(), data=write_results(tmp_path), attribute=attribute("gloomy", "a", "p"))
    found = stored(one, "a-psr-mse-qr")
    assert (found["trait"], found["trait_low"], found["trait_high"], found["alpha"], found["reached"]) == (
        93.0,
        90.0,
        96.0,
        1.0,
        True,
    )
    assert [row["method"] for row in chosen_modules(one)] == ["a-psr-mse-qr"]
    with pytest.raises(PsrError, match=r"a method has no figure .*expected s-psr-mse-qr of persona/gloomy"):
        stored(one, "s-psr-mse-qr")
    path = one.data / "distill/modules.parquet"
    write_table(path, "modules", [row for row in read_table(path, "modules") if row["method"] != "a-psr-mse-qr"])
    with pytest.raises(
        PsrError, match=r"needs an all-layer PSR module .*a-psr-mse-qr or a-psr-mse-r, got s-const-dim-r"
    ):
        chosen_modules(one)


def test_only_persona_is_compared_and_attributes_keep_the_profiles_order():
    known = [attribute("x", "a", "p"), attribute("y", "a", "p"), replace(attribute("z", "a", "p"), benchmark="ifeval")]
    assert [one.name for one in wanted(known, ())] == ["x", "y"]
    assert [one.name for one in wanted(known, ("persona/y", "x"))] == ["x", "y"]
    with pytest.raises(PsrError, match=r"expected some of x, y, got 'z'"):
        wanted(known, ("z",))
    with pytest.raises(PsrError, match="attributes of persona"):
        wanted(known[2:], ())


def test_the_first_repetition_is_compared_with_its_own_seeds():
    one = replace(case(), settings=params.load(ROOT, "full").model_dump())
    assert (one.seed, one.sampled("search"), one.sampled("steer")) == (123, (2, 3), (10, 11))


@pytest.mark.parametrize(("count", "words"), [(58, "58 B"), (6420, "6.42 kB"), (5_290_000, "5.29 MB")])
def test_sizes_are_said_as_people_say_them(count, words):
    assert size(count) == words


def test_what_was_not_reached_or_not_scored_says_so():
    row = adaptation_row("s-psr-mse-qr", ATTRIBUTES[0], alpha=0.0, reached=False, trait=None, per_row=False)
    heading, shown = adaptation_table([row]).rows
    assert heading[0] == "gloomy"
    assert (*shown[1:4], shown[-1]) == ("–", "97.0 (96.0–98.0)", "not reached", "no")


@pytest.mark.slow
def test_a_small_comparison_on_the_shipped_model(mini, monkeypatch, tmp_path):  # noqa: F811
    quick = {slug: replace(one, epochs=2, batch_size=2) for slug, one in adapters.SETTINGS.items()}
    monkeypatch.setattr(measuring, "SETTINGS", quick)
    model = ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1)
    (pirate,) = attributes_of([SimpleNamespace(**SETTINGS["benchmarks"][0])])
    (one,), cells = load(mini, SETTINGS, model, [pirate]), Cells(tmp_path / "cells", "1")
    found = rows_of(one, cells)
    rows = {row["method"]: row for row in found}
    assert list(rows) == ["prompt", "a-psr-mse-qr", "lora1-ll", "lora8-ll", "full-ll"]
    headline = {
        row["method"]: row
        for row in read_table(mini / "results/figures_seeds.parquet", "figures_seeds")
        if (row["attribute"], row["seed"], row["figure"]) == ("persona/pirate", SEEDS[0], "ta_cp")
    }
    for slug in ("prompt", "a-psr-mse-qr"):
        assert (rows[slug]["trait"], rows[slug]["coherence"]) == pytest.approx(
            (headline[slug]["value"], headline[slug]["coherence"])
        )
    assert [row["per_row"] for row in found] == [True, True, False, False, False]
    assert rows["prompt"]["extra_tokens"] > 0 == sum(row["extra_tokens"] for row in found[1:])
    assert rows["a-psr-mse-qr"]["parameters"] == 6 * (2 * 128 + 1)
    assert rows["full-ll"]["parameters"] > rows["lora8-ll"]["parameters"] == 8 * rows["lora1-ll"]["parameters"]
    assert all(4 * row["parameters"] <= row["bytes"] < 4 * row["parameters"] + 20_000 for row in found[1:])
    assert all((row["drift"] == 0) == (row["alpha"] == 0) for row in found)
    write_table(mini / "adaptation/adaptation.parquet", "adaptation", found)
    monkeypatch.setattr(
        measuring, "scores_of_adapter", lambda *_: pytest.fail("an adapter that is there was fitted again")
    )
    assert rows_of(one, cells)[2:] == found[2:]
    monkeypatch.setitem(quick, "lora1-ll", replace(quick["lora1-ll"], lr=0.5))
    with pytest.raises(pytest.fail.Exception):  # other settings are another adapter
        rows_of(one, cells)
