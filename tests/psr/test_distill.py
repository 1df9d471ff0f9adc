"""From an instruction to a module on the testbed's model: what comes out, what is refused, and what is kept of a failure."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import psr
from psr.answers.questions import LEAST, Questions, everyday_questions
from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.from_prompt.strength import MARGIN, Unsteered, choose_strength, search_strength
from psr.from_prompt.wordings import TEMPLATES, templated, try_wordings
from psr.judges.judging import judge_all
from psr.testbed.judges import TestbedJudge
from psr.types import INSTRUCTED, PLAIN, JudgeItem, Judgement, Usage, Verdicts

ROOT = Path(__file__).resolve().parents[2]
SMOLLM2 = ROOT / "data" / "models" / "smollm2"
PIRATE = json.loads((ROOT / "data/testbed/persona/extract/pirate.json").read_text())
INSTRUCTION = PIRATE["instruction"][0]["pos"]
QUESTIONS = tuple(PIRATE["questions"][:32])


@pytest.fixture(scope="module")
def lm():
    return psr.load_model(ROOT / "data/testbed/model")


@pytest.fixture(scope="module")
def steps():
    return {}


@pytest.fixture(scope="module")
def pirate(lm, steps):
    def progress(step, n, total):
        steps.setdefault(step, []).append((n, total))

    return psr.distill(lm, INSTRUCTION, questions=QUESTIONS, progress=progress)


@dataclass(frozen=True)
class Fixed:
    """Rates every answer to prompted questions alike: the verdicts that are given, by the method's side."""

    trait: float = 100.0
    coherence: float = 100.0
    plain: float = 0.0
    dimensions: tuple[str, ...] = ("trait", "coherence")
    id = "fixed"
    rubric = "1"

    def __call__(self, items):
        rows = [
            Judgement(item.completion, self.id, self.rubric, name, value, 100.0)
            for item in items
            for name, value in (
                ("trait", self.trait if "arr" in item.text.lower() else self.plain),
                ("coherence", self.coherence),
            )
        ]
        return Verdicts(tuple(rows), Usage())


def test_the_module_does_what_the_prompt_does_on_questions_that_chose_nothing(pirate):
    assert pirate.followed > 95
    assert pirate.reached
    assert abs(pirate.steered.effect.value - pirate.prompted.effect.value) < 15
    assert pirate.steered.coherence.value > 90
    assert abs(pirate.plain.effect.value) < 10
    assert {said.question for said in pirate.answers} == set(QUESTIONS[3::4])
    rule = TestbedJudge("persona")
    items = [JudgeItem(str(i), "persona/pirate", said.question, said.steered) for i, said in enumerate(pirate.answers)]
    trait = [one.value for one in judge_all(rule, items).judgements if one.dimension == "trait"]
    assert np.mean(trait) > 80, "by the exact judge as well"


def test_its_strength_has_an_interval_and_a_safe_range_and_a_curve_from_the_unsteered_model_on(pirate):
    alphas = [point.alpha for point in pirate.curve]
    assert alphas[0] == 0
    assert alphas == sorted(set(alphas))
    assert pirate.safe[0] <= pirate.interval[0] <= pirate.alpha <= pirate.interval[1] <= max(alphas)
    assert 0 < pirate.alpha <= pirate.safe[1]
    assert pirate.curve[0].effect < 10 < 90 < max(point.effect for point in pirate.curve)


def test_kept_and_dropped_are_all_that_was_answered(pirate):
    assert pirate.kept + sum(pirate.dropped.values()) == len(QUESTIONS[0::2])
    assert pirate.kept == pirate.module.origin["examples"]


def test_held_out_wordings_are_others_than_the_instruction(pirate):
    assert len(pirate.wordings) == 2
    assert INSTRUCTION not in pirate.wordings
    assert set(pirate.wordings) <= set(templated(INSTRUCTION))


def test_progress_says_how_much_of_each_step_is_done(pirate, steps):
    assert list(steps) == [
        "answers to fit on", "trying other wordings", "calibrating the judge", "judging them", "fitting",
        "answers to search on", "strengths", "answers for the figures",
    ]  # fmt: skip
    for name, done in steps.items():
        assert all(0 < n <= total for n, total in done), name
    assert sum(n for n, _ in steps["fitting"]) == steps["fitting"][0][1]


def test_the_module_carries_its_strength_and_steering_uses_it_when_given_none(lm, pirate, tmp_path):
    loaded = psr.load_module(psr.save_module(pirate.module, tmp_path / "module"))
    assert loaded.recommended_alpha == pirate.alpha
    assert loaded.origin["safe_alpha"] == list(pirate.safe)
    assert loaded.origin["instruction"] == INSTRUCTION
    chosen = replace(loaded, origin={"recommended_alpha": 1.37})
    for module, strength in ((chosen, 1.37), (replace(loaded, origin={}), 1.0)):
        assert torch.equal(logits(lm, module), logits(lm, module, strength))
    assert not torch.equal(logits(lm, chosen), logits(lm, chosen, 1.0))
    both = logits(lm, [chosen, replace(loaded, origin={})])
    assert torch.equal(both, logits(lm, [chosen, loaded], [1.37, 1.0])), "each has its own"


def logits(lm, module, *alpha):
    ids = torch.tensor([psr.encode_chat(lm.tokenizer, (psr.Message("user", QUESTIONS[0]),)).ids])
    with torch.no_grad(), psr.steer(lm.model, module, *alpha, tokenizer=lm.tokenizer):
        return lm.model(ids).logits


def test_a_recommended_strength_that_is_no_number_is_refused(pirate):
    for wrong in ("much", None, float("nan")):
        module = replace(pirate.module, origin={"recommended_alpha": wrong})
        with pytest.raises(PsrError, match="alpha is not a finite number"):
            _ = module.recommended_alpha


@pytest.mark.slow
def test_the_same_seed_gives_the_same_module(lm):
    settings = psr.FitSettings(epochs=20, batch_size=8)
    options = {"questions": QUESTIONS[:LEAST], "judge": Fixed(), "alpha_max": 1.0, "settings": settings}
    one, again, other = (psr.distill(lm, INSTRUCTION, seed=seed, **options) for seed in (1, 1, 2))
    assert all(torch.equal(again.module.tensors[name], tensor) for name, tensor in one.module.tensors.items())
    assert (again.alpha, again.curve, again.answers) == (one.alpha, one.curve, one.answers)
    assert not torch.equal(other.module.tensors["z"], one.module.tensors["z"])


def test_suppressing_undoes_the_instruction_where_it_is_given(lm):
    result = psr.distill(lm, INSTRUCTION, questions=QUESTIONS, suppress=True)
    assert result.curve[0].effect > 90, "it starts from the prompted answers"
    assert result.steered.effect.value < 25
    assert result.steered.coherence.value > 85
    assert result.module.origin["suppress"] is True
    question = psr.PromptPair("x", QUESTIONS[3], INSTRUCTION)
    prompts = [psr.encode_chat(lm.tokenizer, chat) for chat in (question.instructed, question.plain)]
    requests = [psr.Request(prompt, 0, result.module, result.alpha) for prompt in prompts]
    for answer in psr.generate(lm, requests, psr.Sampling(64, 0.7)):
        assert "arr" not in answer.text.lower(), answer.text


def test_a_judge_of_ones_own_and_questions_that_are_divided_already(lm):
    divided = Questions(QUESTIONS[:12], QUESTIONS[12:18], QUESTIONS[18:24])
    judge = TestbedJudge("persona")
    result = psr.distill(lm, INSTRUCTION, questions=divided, judge=judge, attribute="persona/pirate", alpha_max=1.5)
    assert (result.judge, result.wordings) == ("testbed-persona", ())
    assert max(point.alpha for point in result.curve) <= 1.5
    assert result.prompted.effect.value > 80, "in the judge's own points"
    assert [said.question for said in result.answers] == list(divided.evaluate)


def test_an_instruction_that_the_model_does_not_follow_is_refused_with_the_number_and_nothing_is_fitted(lm):
    with pytest.raises(
        PsrError, match=r"does not follow this instruction \('Answer.'\).*30 of 100.*got -?\d+ by judge"
    ) as error:
        psr.distill(lm, "Answer.", questions=QUESTIONS)
    computed = error.value.computed
    assert computed.module is None
    assert {one.method for one in computed.completions} == {PLAIN, INSTRUCTED}
    assert {computed.pairs[one.pair].question for one in computed.completions} == set(QUESTIONS[0::2])


def test_a_likelihood_judge_that_cannot_tell_ends_it(lm, monkeypatch):
    monkeypatch.setattr("psr.judges.likelihood.ABLE", 1.01)
    with pytest.raises(PsrError, match=r"cannot tell.*AUC of at least 1.01") as error:
        psr.distill(lm, INSTRUCTION, questions=QUESTIONS)
    assert error.value.computed.completions


def test_too_few_kept_answers_are_counted_with_their_reasons(lm):
    with pytest.raises(
        PsrError, match=r"too few triplets.*at least 8, got 0 kept; 16 dropped: \d+ coherence below 0.5"
    ) as error:
        psr.distill(lm, INSTRUCTION, questions=QUESTIONS, judge=Fixed(coherence=20.0))
    assert len(error.value.computed.judgements) == 2 * 2 * 16


def test_a_module_without_effect_is_said_with_its_curve_and_kept(lm):
    nothing = psr.FitSettings(epochs=1, lr=1e-9, regulariser=0.0, init="small")
    with pytest.raises(
        PsrError, match=r"no strength of this module has an effect.*effect and coherence by alpha 0: "
    ) as error:
        psr.distill(lm, INSTRUCTION, questions=QUESTIONS, judge=Fixed(), settings=nothing, alpha_max=1.0)
    assert error.value.computed.module is not None


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ([*QUESTIONS, " "], r"a question is empty \(question 33\)"),
        ([*QUESTIONS, QUESTIONS[0]], r"a question is there twice \('Why do people care about libraries\?'\)"),
        (QUESTIONS[: LEAST - 1], f"too few questions, expected at least {LEAST}, which are divided, got {LEAST - 1}"),
        (
            [*QUESTIONS, "Tell me about trains. " * 40],
            r"does not fit the model's context \('Tell me about.*at most 256 tokens",
        ),
        (Questions(QUESTIONS, (), ()), r"a side has no questions \(search\)"),
    ],
)
def test_questions_that_cannot_be_used_are_refused_before_anything_is_asked(lm, questions, said):
    with pytest.raises(PsrError, match=said) as error:
        psr.distill(lm, INSTRUCTION, questions=questions)
    assert not hasattr(error.value, "computed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": Fixed(dimensions=("coherence",))}, "does not rate what is searched for"),
        ({"method": "lora-ll"}, "this method makes no module"),
        ({"method": "s-psr-mse-qr"}, r"steers one layer .*expected layers=\(…,\)"),
        ({"instruction": " "}, "the instruction is empty"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_asked(lm, options, said):
    with pytest.raises(PsrError, match=said):
        psr.distill(lm, **{"instruction": INSTRUCTION, "questions": QUESTIONS, **options})


def test_wordings_that_do_not_act_alike_are_left_out(lm):
    pairs = [psr.PromptPair("x", question, INSTRUCTION) for question in QUESTIONS[:8]]
    sides = []
    for chats in ([pair.plain for pair in pairs], [pair.instructed for pair in pairs]):
        prompts = [psr.encode_chat(lm.tokenizer, chat) for chat in chats]
        answers = psr.generate(lm, [psr.Request(prompt, 0) for prompt in prompts], psr.Sampling(64))
        sides.append([JudgeItem(str(i), "x", pair.question, one.text, one.finished)
                      for i, (pair, one) in enumerate(zip(pairs, answers, strict=True))])  # fmt: skip
    other = "Speak like a pirate in every sentence."
    tried = try_wordings(lm, INSTRUCTION, ("Give a clear and helpful answer.", other), *sides, batch_size=8)
    assert tried.alike == (other,)
    assert tried.far[other] == pytest.approx(1, abs=0.3)
    assert tried.able == 1.0


def test_templates_hold_the_instruction():
    assert all(INSTRUCTION in wording and wording != INSTRUCTION for wording in templated(INSTRUCTION))
    assert len(set(templated(INSTRUCTION))) == len(TEMPLATES)


def scores(alphas, effect, coherence, questions=4):
    rows = [np.repeat(np.array(values, dtype=float)[:, None], questions, axis=1) for values in (effect, coherence)]
    return Scores(tuple(alphas), *rows)


def flat(effect, coherence, questions=4):
    return np.full(questions, float(effect)), np.full(questions, float(coherence))


def test_the_strength_is_the_smallest_safe_one_that_does_as_much_as_the_prompt():
    unsteered = Unsteered(flat(0, 100), flat(100, 100))
    grid = (0.0, 1.0, 2.0)
    reached = choose_strength(scores(grid, (0, 80, 120), (100, 100, 100)), unsteered)
    assert (reached.alpha, reached.safe, reached.reached) == (1.5, (0, 2), True), "on the line between 1 and 2"
    unsafe = choose_strength(scores(grid, (0, 80, 120), (100, 100, 60)), unsteered)
    assert (unsafe.alpha, unsafe.safe[1], unsafe.reached) == (1.1, 1.1, False), (
        f"coherence falls by {MARGIN:g} at 1.125"
    )
    weak = choose_strength(scores(grid, (0, 60, 50), (100, 100, 100)), unsteered)
    assert (weak.alpha, weak.reached) == (1.0, False), "the largest effect"
    beyond = choose_strength(scores(grid, (0, 10, 100), (100, 80, 100)), unsteered)
    assert beyond.safe[1] < 1, "what makes sense again further on is not in the range"
    assert reached.interval == (1.5, 1.5), "all questions are alike"


def test_to_suppress_the_strength_leads_from_the_prompted_answers_to_the_plain_ones():
    unsteered = Unsteered(flat(0, 100), flat(100, 100), suppress=True)
    strength = choose_strength(scores((0.0, 1.0, 2.0), (100, 40, -40), (100, 100, 100)), unsteered)
    assert (strength.alpha, strength.reached) == (1.5, True)


def test_the_interval_repeats_the_choice_on_resampled_questions():
    effect = np.array([[0, 0, 0, 0], [50, 100, 150, 100], [100, 200, 300, 200]], dtype=float)
    some = Scores((0.0, 1.0, 2.0), effect, np.full((3, 4), 100.0))
    unsteered = Unsteered(flat(0, 100), flat(100, 100))
    strength = choose_strength(some, unsteered)
    assert strength.interval[0] < strength.alpha == 1.0 < strength.interval[1]


def test_the_search_goes_up_until_answers_stop_making_sense_and_then_looks_closer():
    asked = []

    def evaluate(alphas):
        asked.append(tuple(alphas))
        return scores(alphas, [60 * alpha for alpha in alphas], [100 if alpha < 2.6 else 20 for alpha in alphas])

    _, strength = search_strength(evaluate, Unsteered(flat(0, 100), flat(100, 100)), 5.0)
    assert asked[:2] == [(0.5, 1.0, 1.5, 2.0), (3.0,)]
    assert all(alpha < 3 for alphas in asked[2:] for alpha in alphas), "4 and 5 are not asked"
    assert strength.alpha == pytest.approx(100 / 60, abs=0.06)
    assert 2 <= strength.safe[1] < 2.7


@pytest.mark.pretrained
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="python -m flows.fetch smollm2 has not been run")
def test_a_sentence_makes_a_module_that_steers_a_pretrained_model():
    lm = psr.load_model(SMOLLM2, dtype="bfloat16")
    fitting, search, evaluate = everyday_questions()
    some = Questions(fitting[:40], search[:12], evaluate[:12])
    result = psr.distill(lm, "Talk like a pirate.", questions=some, sampling=psr.Sampling(48, 0.7))
    assert result.followed >= 80
    assert result.alpha > 0
    assert result.steered.effect.value > 50
    assert result.steered.coherence.value > result.prompted.coherence.value - 15
