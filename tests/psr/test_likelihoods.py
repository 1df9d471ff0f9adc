"""The judge `likelihood` of a benchmark: each attribute by its own likelihood judge, words and formats by rules."""

import json
import pickle
from functools import partial
from pathlib import Path

import pytest

import psr
from psr.answers.completions import Ask, complete
from psr.errors import PsrError
from psr.judges.judging import judge_all
from psr.judges.likelihood import LikelihoodJudge
from psr.judges.likelihoods import Likelihoods
from psr.judges.traits import rate_trait
from psr.types import INSTRUCTED, PLAIN, Attribute, JudgeItem, PromptPair

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data/testbed/model"
FIT, TEST = (
    json.loads((ROOT / f"data/testbed/persona/{side}/pirate.json").read_text()) for side in ("extract", "eval")
)
PIRATE = Attribute(
    "persona",
    "pirate",
    tuple(one["pos"] for one in FIT["instruction"][:2]),
    tuple(one["pos"] for one in TEST["instruction"][:2]),
    tuple(FIT["questions"][:10]),
    (),
    (),
    "",
)
SEA = Attribute("persona", "sea", PIRATE.instructions, PIRATE.held_out, PIRATE.questions, (), (), "")
LOWER = Attribute(
    "ifeval",
    "lower",
    ("Small letters.",),
    ("No capitals.",),
    ("Why?",),
    (),
    (),
    "",
    (("instruction_id", "change_case:english_lowercase"),),
)


def answered(lm, attribute, questions, method, seed=0):
    asks = [Ask(PromptPair(attribute.key, q, attribute.instructions[0]), method, seed) for q in questions]
    return [
        JudgeItem(one.id, attribute.key, ask.pair.question, one.text, one.finished)
        for ask, one in zip(asks, complete(lm, asks, psr.Sampling(48)), strict=True)
    ]


@pytest.fixture(scope="module")
def lm():
    return psr.load_model(MODEL)


@pytest.fixture(scope="module")
def judge():
    return Likelihoods("persona", {one.key: one for one in (PIRATE, SEA)}, answers=10)


@pytest.fixture(scope="module")
def calibration(lm, judge):
    sides = [answered(lm, PIRATE, PIRATE.questions, method) for method in (PLAIN, INSTRUCTED)]
    return judge.calibrate(lm, PIRATE.key, *sides)


@pytest.fixture(scope="module")
def able(lm, judge, calibration):
    return judge.ready(partial(psr.load_model, MODEL), {PIRATE.key: calibration, SEA.key: calibration})


def test_each_dimension_is_that_of_its_own_judge(lm, able, calibration):
    items = [one for method in (PLAIN, INSTRUCTED) for one in answered(lm, PIRATE, TEST["questions"][:4], method, 1)]
    judged = {(one.completion, one.dimension): one.value for one in judge_all(able, items).judgements}
    alone = judge_all(LikelihoodJudge(lm, **calibration.judge), items).judgements
    assert {key: value for key, value in judged.items() if key[1] != "words"} == pytest.approx(
        {(one.completion, one.dimension): one.value for one in alone}
    )
    assert all(judged[item.completion, "words"] == rate_trait("pirate", item.text) for item in items)


def test_its_marks_are_of_held_out_instructions_and_it_says_how_well_it_tells(calibration):
    assert tuple(calibration.judge["instructions"]) == PIRATE.held_out
    assert calibration.judge["auc"] >= 0.95
    assert calibration.judge["plain"] < calibration.judge["prompted"]
    assert calibration.agreement is None or 0 <= calibration.agreement <= 1


def test_a_trait_without_a_word_rule_has_no_words_and_all_the_rest(able):
    judged = judge_all(able, [JudgeItem("a", SEA.key, "Why?", "Because it is so.")]).judgements
    assert {one.dimension: one.value is None for one in judged} == {"trait": False, "coherence": False, "words": True}
    assert "no rule" in next(one.error for one in judged if one.dimension == "words")


def test_it_says_what_it_cannot_judge(judge):
    assert judge.refuses(PIRATE) == judge.refuses(SEA) == ""
    assert "held-out" in judge.refuses(Attribute("persona", "x", ("a",), (), ("b",), (), (), ""))
    assert Likelihoods("ifeval", {LOWER.key: LOWER}).refuses(LOWER) == ""
    unknown = Attribute("ifeval", "x", ("a",), ("b",), ("c",), (), (), "", (("instruction_id", "no:such"),))
    assert Likelihoods("ifeval", {}).refuses(unknown) != ""
    with pytest.raises(PsrError, match="cannot judge this benchmark"):
        Likelihoods("axbench", {})


def test_uncalibrated_it_refuses_to_judge(judge):
    with pytest.raises(PsrError, match=r"not calibrated.*persona/pirate"):
        judge([JudgeItem("a", PIRATE.key, "Why?", "So.")])


def test_it_can_be_sent_to_another_process_and_its_marks_are_part_of_its_key(judge, able):
    again = pickle.loads(pickle.dumps(able))
    item = JudgeItem("a", PIRATE.key, "What is the sea?", "Arr, the sea be deep, matey.")
    assert judge_all(again, [item]) == judge_all(able, [item])
    assert able.reads(PIRATE.key) == again.reads(PIRATE.key) != judge.reads(PIRATE.key)
    json.dumps(able.reads(PIRATE.key), allow_nan=False)


def test_what_the_prompt_makes_has_no_ends(able):
    assert able.unbounded == ("trait",)
    assert Likelihoods("ifeval", {}).unbounded == ("effect",)
