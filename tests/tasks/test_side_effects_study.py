"""The study on the shipped model at a tiny scale: what is asked, what each figure is of, and what a second run makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flows.params import Profile
from flows.params import load as load_profile
from psr.errors import PsrError
from psr.judges.judging import judge_all
from psr.testbed.questions import topic_of
from psr.testbed.verifiers import follows
from psr.types import Attribute, JudgeItem, PromptPair
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import load_attributes
from tasks.engine.cells import Cells
from tasks.studies.side_effects import measures
from tasks.studies.side_effects.material import Case, Size, conversations, format_pairs, load, unrelated_pairs, wanted
from tasks.studies.side_effects.rows import keeps_english, rows_of
from tasks.studies.side_effects.subjects import subjects
from tests.psr.families import tokenizer
from tests.tasks.test_suite import SETTINGS as SUITE
from tests.tasks.test_suite import run

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (5, 6)
SETTINGS = {
    **SUITE,
    "benchmarks": SUITE["benchmarks"][:1],
    "methods": ("a-const-mse-qr", "a-psr-mse-qr"),
    "sampling": {"temperature": 1.0, "max_new_tokens": 48},
    "complete": {**SUITE["complete"], "questions": 12},
    "select": {**SUITE["select"], "limit": 12},
    "distill": {**SUITE["distill"], "epochs": 12},
    "steer": {**SUITE["steer"], "questions": 12, "samples": 1, "with_prompt": ()},
}
SIZE = Size(questions=5, conversations=3, turns=12)
SHIPPED = ModelSettings(str(ROOT / "data/testbed/model"), "float32", "cpu", 1)
PIRATE = load_attributes("persona", ROOT / "data/everyday/persona", ["pirate"])[0]
EVERYDAY = ROOT / "data/everyday/persona"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("side-effects")
    data, settings = run(root, SETTINGS), Profile.model_validate(SETTINGS).model_dump()
    (one,) = load(data, settings, SHIPPED, wanted(settings, ()), SIZE, Cells(root / ".psr/cells", "1"))
    return one


def test_unrelated_questions_are_none_of_the_attributes_and_in_the_models_language():
    found = unrelated_pairs(PIRATE, 12, testbed=False)
    assert len({pair.question for pair in found} - {*PIRATE.questions, *PIRATE.search, *PIRATE.evaluate}) == 12
    assert {pair.instruction for pair in found} == set(PIRATE.held_out)
    asked = replace(PIRATE, evaluate=(*PIRATE.evaluate, *(pair.question for pair in found)))
    again = unrelated_pairs(asked, 12, testbed=False)
    assert not {pair.question for pair in found} & {pair.question for pair in again}
    toy = load_attributes("persona", ROOT / "data/testbed/persona", ["pirate"])[0]
    of_toy = {pair.question for pair in unrelated_pairs(toy, 12, testbed=True)}
    assert len(of_toy - {*toy.questions, *toy.search, *toy.evaluate}) == 12
    assert all(topic_of(question) for question in of_toy)  # raises for what is not the language's
    with pytest.raises(
        PsrError, match=r"not as many questions unrelated to persona/pirate as asked for, expected 1 to"
    ):
        unrelated_pairs(PIRATE, 1000, testbed=False)


def test_formats_are_asked_behind_the_question_and_each_kind_in_turn():
    formats, pairs = format_pairs(PIRATE, EVERYDAY, 12, testbed=False)
    kinds = {one.key: one for one in formats}
    assert len(kinds) == 6
    assert [pair.attribute for pair in pairs] == 2 * list(kinds)
    for pair in pairs:
        own = kinds[pair.attribute]
        assert any(pair.question == f"{q} {i}" for q in own.evaluate for i in own.held_out)
        assert pair.instruction in PIRATE.held_out
    elsewhere, _ = format_pairs(PIRATE, ROOT / "my_lab/moods", 4, testbed=False)
    assert [one.key for one in elsewhere] == list(kinds)


def test_conversations_ask_the_same_questions_from_different_places_on():
    attribute = Attribute("persona", "x", ("I.",), ("A.", "B."), (), (), tuple("abcdef"), "")
    found = conversations(attribute, None, Size(1, 2, 4))
    assert [[pair.question for pair in one] for one in found] == [list("abde"), list("deab")]
    assert [{pair.instruction for pair in one} for one in found] == [{"A."}, {"B."}]
    every = conversations(attribute, None, Size(1, 6, 6))
    assert [{one[turn].question for one in every} for turn in range(6)] == [set("abcdef")] * 6
    with pytest.raises(PsrError, match=r"\(--turns, --conversations\), expected at most 6, got 7"):
        conversations(attribute, None, Size(1, 2, 7))


def test_only_attributes_with_a_search_over_the_strength_have_equal_effects():
    settings = load_profile(ROOT, "full").model_dump()
    settings["benchmarks"] = [{**one, "path": str(ROOT / one["path"])} for one in settings["benchmarks"]]
    assert [one.key for one, _ in wanted(settings, ())] == ["persona/gloomy", "persona/pirate"]
    assert [one.key for one, _ in wanted(settings, ["pirate", "persona/pirate"])] == ["persona/pirate"]
    with pytest.raises(
        PsrError, match=r"no such attribute of the profile .*some of gloomy, pirate, got 'startend:quotation'"
    ):
        wanted(settings, ["startend:quotation"])
    settings["benchmarks"] = settings["benchmarks"][1:]
    with pytest.raises(PsrError, match="side effects are compared where effects are equal"):
        wanted(settings, ())


def test_english_is_no_measure_where_the_untouched_model_speaks_another_language():
    from psr.evaluation.side_effects import ratio

    every = [{("english", 0): ratio([0.0, 0.0, 100.0])}, {("english", 0): ratio([100.0])}]
    keeps_english(every)
    assert [one["english", 0] for one in every] == ["the untouched model answers in English in 33 of 100 cases"] * 2
    kept = [{("english", 0): ratio([100.0, 0.0])}, {("english", 0): "no"}]
    keeps_english(kept)
    assert kept[1]["english", 0] == "no"
    assert kept[0]["english", 0].value == 50


@pytest.mark.slow
def test_a_small_study_on_the_shipped_model(case, monkeypatch):
    rows = rows_of(case, ())
    of = {(row["method"], row["measure"], row["turn"]): row for row in rows}
    methods = ["plain", "prompt", "a-psr-mse-qr", "a-const-mse-qr", "a-psr-mse-qr+signs"]
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    assert len(of) == len(rows) == 5 * (7 + 2 * SIZE.turns)

    # what plain and prompt do is what the profile has stored; a module's strength is tried on other questions
    for method, label in (("plain", "plain"), ("prompt", "instructed")):
        stored = [case.evaluation[seed].mean(label, "trait").mean() for seed in SEEDS]
        assert of[method, "effect", 0]["value"] == pytest.approx(np.mean(stored))
    assert of["plain", "drift", 0]["value"] == 0 < of["prompt", "drift", 0]["value"]
    module, control = (of[slug, "effect", 0] for slug in methods[2::2])
    assert module["alpha"] == control["alpha"] > 0
    assert module["value"] > control["value"] + 30
    assert module["difference"] == pytest.approx(module["value"] - of["prompt", "effect", 0]["value"])
    assert of["prompt", "effect", 0]["difference"] is None

    # formats are checked by the testbed's rules
    plain, *_ = subjects(case, ())
    obeyed = []
    kinds = {one.key: dict(one.kwargs) for one in load_attributes("ifeval", ROOT / "data/testbed/ifeval")}
    answers = measures.answered(case, plain)
    for seed in SEEDS:
        for pair, answer in zip(case.formats, answers[seed, "formats"], strict=True):
            kwargs = dict(kinds[pair.attribute])
            obeyed.append(100.0 * follows(answer.text, kwargs.pop("instruction_id"), kwargs))
    assert of["plain", "formats", 0]["value"] == pytest.approx(np.mean(obeyed))

    # the language of ten words is not told, and a conversation ends where the context does
    assert {row["note"] for row in rows if row["measure"] == "english"} == {case.not_english}
    assert all((row["value"] is None) == bool(row["note"]) for row in rows)
    full = [row["turn"] for row in rows if row["method"] == "plain" and "256 tokens is full" in row["note"]]
    assert sorted(full) == sorted(2 * list(range(min(full), SIZE.turns + 1)))
    prompt = subjects(case, ())[1]
    found = measures.conversed(case, prompt)
    assert {key[2] for key in found} == set(range(1, max(found)[2] + 1))
    second = case.conversations[1][1]
    judged = judge_all(case.judge, [JudgeItem.of(found[6, 1, 2], second)]).judgements
    assert measures.judged(case, [found[6, 1, 2]], [second], "")[found[6, 1, 2].id, "trait"] == judged[0].value

    # nothing is made twice
    monkeypatch.setattr("psr.answers.conversations.converse", lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr("psr.answers.completions.complete", lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr("psr.evaluation.drift.module_drift", lambda *_, **__: pytest.fail("run again"))
    assert rows_of(case, ()) == rows
    with pytest.raises(PsrError, match=r"no module of such a method .*--method, persona/pirate.*got s-psr-ll-r"):
        rows_of(case, ["s-psr-ll-r"])


@pytest.mark.slow
def test_what_the_judge_cannot_say_is_missing_and_counted(case, monkeypatch):
    real = measures.judge_once

    def silent(judge, completions, pairs, cells, label):
        made = real(judge, completions, pairs, cells, label)
        return [replace(one, value=None, error="no") if i < 4 else one for i, one in enumerate(made)]  # two answers

    monkeypatch.setattr(measures, "judge_once", silent)
    plain = subjects(case, ())[0]
    first = measures.turns(case, plain)["effect", 1]
    assert (first.n, first.n_unscored) == (5, 1)  # of two repetitions, the first conversation's first turn in one
    formats = measures.formats(case, plain, 5, measures.answered(case, plain)[5, "formats"])
    assert (formats.n, formats.n_unscored) == (8, 2)


def test_a_template_that_writes_earlier_turns_anew_has_no_turns_and_says_so():
    from tasks.studies.side_effects.subjects import Subject

    pair = PromptPair("persona/x", "why", "Answer in verse.")
    for template, words in (("last_user", "writes earlier turns in another way"), ("system", "")):
        lm = SimpleNamespace(tokenizer=tokenizer(template))
        one = SimpleNamespace(
            lm=lm, conversations=[[pair] * 2], benchmark=SimpleNamespace(asked="trait", sense="coherence")
        )
        assert (words in measures.refuses_turns(one)) if words else not measures.refuses_turns(one)
        if words:
            found = measures.turns(one, Subject("plain", "plain"))
            assert set(found) == {(name, turn) for name in ("effect", "coherence") for turn in (1, 2)}
            assert all(words in reason for reason in found.values())


def test_a_pair_without_the_prompt_is_asked_once_for_all_wordings():
    from tasks.studies.side_effects.subjects import Subject

    pairs = [PromptPair("persona/x", "q", wording) for wording in ("A.", "B.")]
    plain, prompt = Subject("plain", "plain"), Subject("prompt", "prompt")
    assert len({plain.ask(pair, 5, 1).pair.id for pair in pairs}) == 1
    assert len({prompt.ask(pair, 5, 1).pair.id for pair in pairs}) == 2
    assert prompt.ask(pairs[0], 5, 1).chat[0].content == "A."
    assert [message.role for message in plain.ask(pairs[0], 5, 1).chat] == ["user"]
