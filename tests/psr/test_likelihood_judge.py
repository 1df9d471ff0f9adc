"""The likelihood judge: its effect against a computation by hand, and what it says of spoilt answers, on answers that it has not seen."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import psr
from psr.answers.completions import Ask, complete
from psr.answers.questions import everyday_questions
from psr.errors import PsrError
from psr.judges.judging import judge_all
from psr.judges.likelihood import agreement, auc, coherence, likelihood_judge
from psr.judges.reading import read_answers
from psr.judges.spoilt import WAYS, spoil
from psr.lm.surprise import token_losses
from psr.testbed.judges import TestbedJudge
from psr.types import INSTRUCTED, PLAIN, JudgeItem, Message, PromptPair

ROOT = Path(__file__).resolve().parents[2]
SMOLLM2 = ROOT / "data" / "models" / "smollm2"
PIRATE = {
    side: json.loads((ROOT / f"data/testbed/persona/{side}/pirate.json").read_text()) for side in ("extract", "eval")
}
INSTRUCTION = PIRATE["extract"]["instruction"][0]["pos"]
HELD_OUT = tuple(one["pos"] for one in PIRATE["eval"]["instruction"][:2])


@dataclass(frozen=True)
class Answers:
    """Answers to calibrate on, and fresh ones to other questions."""

    lm: psr.LanguageModel
    plain: list[JudgeItem]
    prompted: list[JudgeItem]
    fresh_plain: list[JudgeItem]
    fresh_prompted: list[JudgeItem]


def answered(lm, questions, method, instruction=INSTRUCTION, seed=0, sampling=None):
    asks = [Ask(PromptPair("persona/pirate", question, instruction), method, seed) for question in questions]
    completions = complete(lm, asks, sampling or psr.Sampling(64))
    return [
        JudgeItem(one.id, "persona/pirate", ask.pair.question, one.text, one.finished)
        for ask, one in zip(asks, completions, strict=True)
    ]


@pytest.fixture(scope="module")
def answers():
    lm = psr.load_model(ROOT / "data/testbed/model")
    fitting, fresh = PIRATE["extract"]["questions"][:16], PIRATE["eval"]["questions"][:12]
    return Answers(lm, *(answered(lm, fitting, m) for m in (PLAIN, INSTRUCTED)),
                   *(answered(lm, fresh, m, seed=1) for m in (PLAIN, INSTRUCTED)))  # fmt: skip


@pytest.fixture(scope="module")
def judge(answers):
    return likelihood_judge(answers.lm, HELD_OUT, answers.plain, answers.prompted)


def values(judge, items, dimension):
    return [one.value for one in judge_all(judge, items).judgements if one.dimension == dimension]


def mean(numbers):
    return sum(numbers) / len(numbers)


def by_hand(lm, question, answer, finished, instruction=None):
    """−log p of each token of one answer, by a forward of its own without padding."""
    system = () if instruction is None else (Message("system", instruction),)
    prompt = psr.encode_chat(lm.tokenizer, (*system, Message("user", question))).ids
    said = [*lm.tokenizer(answer, add_special_tokens=False)["input_ids"], *[lm.tokenizer.eos_token_id] * finished]
    with torch.no_grad():
        logits = lm.model(torch.tensor([[*prompt, *said]])).logits[0].double()
    return [float(-logits[len(prompt) - 1 + i].log_softmax(-1)[token]) for i, token in enumerate(said)]


def test_losses_are_those_of_one_sequence_at_a_time_whatever_the_batch(answers):
    lm, items = answers.lm, [*answers.plain[:3], *answers.prompted[:2]]
    prompts = [psr.encode_chat(lm.tokenizer, (Message("user", item.question),)).ids for item in items]
    said = [lm.tokenizer(item.text, add_special_tokens=False)["input_ids"][: 5 + 4 * i] for i, item in enumerate(items)]
    alone = [by_hand(lm, item.question, lm.tokenizer.decode(ids), 0) for item, ids in zip(items, said, strict=True)]
    for batch_size in (2, 32):
        read = []
        losses = token_losses(lm, prompts, said, batch_size=batch_size, progress=read.append)
        assert sum(read) == len(items)
        for loss, one in zip(losses, alone, strict=True):
            assert loss.tolist() == pytest.approx(one, abs=1e-4)


def test_the_effect_is_the_mean_log_ratio_over_tokens_and_instructions(answers):
    item = answers.fresh_prompted[0]
    [reading] = read_answers(answers.lm, HELD_OUT, [item])
    plain = by_hand(answers.lm, item.question, item.text, item.finished)
    each = [mean(plain) - mean(by_hand(answers.lm, item.question, item.text, item.finished, one)) for one in HELD_OUT]
    assert reading.by == pytest.approx(each, abs=1e-4)
    assert reading.effect == pytest.approx(mean(each), abs=1e-4)


def test_plain_answers_are_at_0_on_average_and_prompted_ones_at_100(answers, judge):
    assert mean(values(judge, answers.plain, "trait")) == pytest.approx(0, abs=0.01)
    assert mean(values(judge, answers.prompted, "trait")) == pytest.approx(100, abs=0.01)
    assert abs(mean(values(judge, answers.fresh_plain, "trait"))) < 10
    assert abs(mean(values(judge, answers.fresh_prompted, "trait")) - 100) < 10
    assert judge.auc >= 0.95
    assert judge.refuses() == ""


def test_values_beyond_the_marks_are_reported(answers, judge):
    everything = values(judge, [*answers.plain, *answers.prompted], "trait")
    assert min(everything) < 0
    assert max(everything) > 100


def test_it_is_graded(answers, judge):
    def half(plain, prompted):
        cut = [item.text.split(". ")[:2] for item in (plain, prompted)]
        return replace(plain, completion=f"{plain.completion} half", text=". ".join([*cut[0], *cut[1]]) + ".")

    halves = [half(*both) for both in zip(answers.fresh_plain, answers.fresh_prompted, strict=True)]
    assert 25 < mean(values(judge, halves, "trait")) < 85


def test_own_answers_are_coherent_and_every_kind_of_spoilt_ones_is_not(answers, judge):
    own = values(judge, [*answers.fresh_plain, *answers.fresh_prompted], "coherence")
    assert mean(own) > 90
    for kind, items in spoil(answers.lm.tokenizer, answers.fresh_plain, answers.fresh_prompted, seed=7).items():
        spoilt = values(judge, items, "coherence")
        assert len(spoilt) == len(own)
        assert auc(spoilt, own) >= 0.95, kind
        assert mean(spoilt) < 20, kind


def test_an_answer_that_stopped_because_it_had_to_is_not_judged_by_its_end(answers, judge):
    item = answers.fresh_plain[0]
    cut = replace(item, completion="cut", text=item.text.rsplit(" ", 4)[0])
    allowed = replace(cut, completion="allowed", finished=False)
    whole, early, long = values(judge, [item, cut, allowed], "coherence")
    assert (whole > 80, early < 20, long > 80) == (True, True, True)


def test_it_agrees_with_the_testbeds_exact_judge_where_that_sees_a_difference(answers, judge):
    rule = TestbedJudge("persona")
    assert agreement(judge, rule, [*answers.fresh_plain, *answers.fresh_prompted]) >= 0.95
    assert math.isnan(agreement(judge, rule, answers.fresh_plain)), "no plain answer is a pirate's"


def test_an_answer_without_a_word_has_no_value_and_the_reason(answers, judge):
    empty = JudgeItem("empty", "persona/pirate", "Tell me about trains.", "", finished=False)
    verdicts = judge_all(judge, [empty, answers.plain[0]]).judgements
    assert [(one.value, one.error) for one in verdicts[:2]] == [(None, "no answer")] * 2
    assert verdicts[2].value is not None


def test_an_instruction_without_effect_is_one_that_it_cannot_tell(answers):
    plain = [answered(answers.lm, PIRATE["extract"]["questions"][:12], PLAIN, seed=seed) for seed in (3, 4)]
    with pytest.raises(PsrError, match=r"cannot tell, expected an AUC of at least 0\.9 .*got 0\.\d\d\. Use a prompt"):
        likelihood_judge(answers.lm, ["Give a clear answer."], *plain)
    forced = likelihood_judge(answers.lm, ["Give a clear answer."], *plain, force=True)
    assert f"AUC {forced.auc:.2f}, below 0.9" in forced.refuses()


@pytest.mark.parametrize(("instructions", "keep"), [((), 16), (HELD_OUT, 7)])
def test_a_judge_without_an_instruction_or_with_too_few_answers_is_refused(answers, instructions, keep):
    with pytest.raises(PsrError, match="lacks what it is calibrated on"):
        likelihood_judge(answers.lm, instructions, answers.plain[:keep], answers.prompted[:keep])


def test_coherence_falls_from_the_good_mark_to_the_bad_one_and_the_worst_flaw_decides():
    def of(*flaws):
        return coherence(psr_reading(flaws), (1.0, 2.0), (3.0, 4.0))

    assert [of(0, 0), of(1, 2), of(2, 2), of(1, 3.5), of(2, 3.5), of(9, 0)] == [100, 100, 50, 25, 25, 0]
    assert of(math.nan, 3) == 50, "what an answer cannot be told by does not count"


def psr_reading(flaws):
    from psr.judges.reading import Reading

    return Reading(0.0, (0.0,), flaws)


def test_auc_counts_pairs():
    assert auc([0, 1], [1, 2]) == (1 + 1 + 0.5 + 1) / 4
    assert math.isnan(auc([], [1]))


def test_the_same_seed_spoils_in_the_same_way(answers):
    first, again, other = (spoil(answers.lm.tokenizer, answers.plain, answers.prompted, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first) == set(WAYS)
    assert all(first[kind] != other[kind] for kind in first)
    assert all(
        sorted(a.text.split()) == sorted(b.text.split()) for a, b in zip(first["salad"], answers.plain, strict=False)
    )
    assert all(b.text.startswith(a.text) and a.finished for a, b in zip(first["cut"], answers.plain, strict=False))


@pytest.mark.pretrained
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="python -m flows.fetch smollm2 has not been run")
def test_a_pretrained_model_judges_its_own_answers_and_their_spoilt_ones():
    lm, sampling, instruction = psr.load_model(SMOLLM2, dtype="bfloat16"), psr.Sampling(64, 0.7), "Talk like a pirate."
    fitting, search, _ = everyday_questions()
    known = [answered(lm, fitting[:24], method, instruction, 0, sampling) for method in (PLAIN, INSTRUCTED)]
    fresh = [answered(lm, search[:24], method, instruction, 1, sampling) for method in (PLAIN, INSTRUCTED)]
    judge = likelihood_judge(lm, ["Answer in the voice of a pirate.", "Speak as pirates do."], *known)
    assert judge.auc >= 0.95
    own = values(judge, [*fresh[0], *fresh[1]], "coherence")
    assert mean(own) > 80
    for kind, items in spoil(lm.tokenizer, *fresh, seed=7).items():
        assert auc(values(judge, items, "coherence"), own) >= 0.95, kind
