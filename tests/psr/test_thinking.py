"""Models that think before they answer: the two are kept apart, and only the answer is judged."""

import copy
from dataclasses import replace

import pytest
from families import FAMILIES, TEMPLATES, tokenizer
from tokenizers import AddedToken

import psr.answers.batch
import psr.answers.generation
from psr.answers.completions import Ask, complete
from psr.answers.sampling import Sampling
from psr.cli_chat import shown
from psr.judges.judging import judge_all
from psr.judges.reading import read_answers
from psr.judges.rules import RulesJudge
from psr.lm.alignment import align
from psr.lm.chats import encode_chat
from psr.lm.models import wrap
from psr.lm.thinking import marks, past_thinking, split
from psr.types import INSTRUCTED, PLAIN, Completion, JudgeItem, PromptPair

PAIR = PromptPair("persona/pirate", "What is the sky?", "Talk like a pirate.")
OPENS = TEMPLATES["system"].replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
CLOSES = OPENS.replace("<think>\n", "<think>\n\n</think>\n\n")
NAMES = TEMPLATES["system"] + "{# an earlier turn's thoughts end with </think> #}"
TOKENS = {"special": True, "token": False}  # kind of mark -> whether decoding leaves it out


def thinks(kind="text", template=NAMES, names=("<think>", "</think>")):
    """A tokenizer whose marks are special tokens, tokens, or plain text that the template names."""
    made = copy.deepcopy(tokenizer("system", "byte"))
    made.chat_template = template
    if kind in TOKENS:
        made.add_tokens([AddedToken(name, special=TOKENS[kind]) for name in names], special_tokens=TOKENS[kind])
    return made


def ids_of(using, text):
    return using(text, add_special_tokens=False)["input_ids"]


def said(using, text, prompt=PAIR.plain):
    return tuple(split(using, marks(using), encode_chat(using, prompt).ids, ids_of(using, text)))


@pytest.mark.parametrize("kind", ["special", "token", "text"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nthe sun?\n</think>\n\nIt is blue.", ("the sun?", "It is blue.", True)),
        ("the sun?</think>It is blue. ", ("the sun?", "It is blue. ", True)),
        ("<think></think>blue", ("", "blue", True)),
        ("I think so.\n", ("", "I think so.\n", True)),
        (" It is a tag, <think>.", ("", " It is a tag, <think>.", True)),
        ("<think>a</think>Write <think> first.", ("a", "Write <think> first.", True)),
        ("<think>is it </think> or not?</think>It is.", ("is it </think> or not?", "It is.", True)),
        ("<think>the sun", ("the sun", "", False)),
        ("\n<think>\nthe sun", ("the sun", "", False)),
        ("<think>a</think>\n<think>b", ("a\n<think>b", "", False)),
        ("<think>a</think>", ("a", "", True)),
        ("", ("", "", True)),
    ],
)
def test_what_follows_the_last_end_of_thinking_is_the_answer(kind, text, expected):
    assert said(thinks(kind), text) == expected


@pytest.mark.parametrize("kind", ["special", "token", "text"])
def test_a_prompt_may_open_thinking_or_end_it(kind):
    opens, closes = thinks(kind, OPENS + "{# </think> #}"), thinks(kind, CLOSES)
    assert said(opens, "the sun?\n</think>\n\nblue") == ("the sun?", "blue", True)
    assert said(opens, "the sun, blue") == ("the sun, blue", "", False)
    assert said(closes, "blue") == ("", "blue", True)
    assert said(closes, "<think>the sun") == ("the sun", "", False)


def test_a_model_without_marks_does_not_think():
    for using in (tokenizer("system"), tokenizer("base"), thinks("text", TEMPLATES["system"])):
        assert marks(using) is None
        assert said(using, "<think>a</think>b") == ("", "<think>a</think>b", True)


def test_other_marks_are_known_by_their_tokens_and_by_a_response_template():
    using = thinks("special", TEMPLATES["system"], ("[THINK]", "[/THINK]"))
    assert said(using, "[THINK]a[/THINK]b") == ("a", "b", True)
    using = thinks("special", TEMPLATES["system"], ("<|channel>", "<channel|>"))
    assert said(using, "<|channel>thought\na<channel|>b") == ("a", "b", True)
    assert said(using, "<|channel>thought\na") == ("a", "", False)
    using = thinks("text", TEMPLATES["system"])
    using.response_template = {"fields": {"thinking": {"open": "<<", "close": ">>", "content": "text"}}}
    assert said(using, "<<a>>b") == ("a", "b", True)


@pytest.fixture
def sampled(monkeypatch):
    """Makes a tiny model that thinks sample these texts, one an ask, with or without its stop token."""

    def sample(*texts, using=None, stop=True):
        lm = wrap(FAMILIES["llama"](), using or thinks("text"))
        rows = [[*ids_of(lm.tokenizer, text), *[lm.stop_ids[0]] * stop] for text in texts]
        step = iter(range(max(map(len, rows)) + 1))

        def pick(logits, u, sampling):
            at = next(step)
            new = [row[at] if at < len(row) else lm.stop_ids[0] for row in rows]
            return logits.new_tensor(new).long(), logits.new_ones(len(rows)).bool()

        monkeypatch.setattr(psr.answers.batch, "pick", pick)
        monkeypatch.setattr(psr.answers.generation, "_SHRINK_AT", 0)
        length = max(map(len, rows))
        asks = [Ask(PAIR, INSTRUCTED, seed) for seed in range(len(texts))]
        return lm, complete(lm, asks, Sampling(length)), rows

    return sample


def test_completions_hold_the_answer_alone_and_every_id(sampled):
    lm, made, rows = sampled("<think>Arr?</think>\nArr, blue.", "<think>Arr, I am", "Arr.")
    assert [(one.thinking, one.text, one.finished) for one in made] == [
        ("Arr?", "Arr, blue.", True),
        ("Arr, I am", "", False),
        ("", "Arr.", True),
    ]
    assert [list(one.token_ids) for one in made] == rows
    assert len({one.id for one in made}) == 3
    assert made[0].id == replace(made[0], thinking="", text="").id
    for one in made:
        for span in ("R", "QR"):
            tokens = align(lm.tokenizer, PAIR, one.token_ids, span)
            assert tokens.plain_ids[-tokens.response :] == one.token_ids == tokens.instructed_ids[-tokens.response :]


def test_an_answer_cut_off_in_thought_is_shown_as_thought(sampled):
    _, made, _ = sampled("<think>[b]Arr?</think>\nArr, blue.", "<think>Arr, I am", "Arr.")
    assert [shown(one).plain for one in made] == ["[b]Arr?\n\nArr, blue.", "Arr, I am\n\n …", "Arr."]
    assert [span.style for span in shown(made[0]).spans] == ["dim"]


def test_only_the_answer_is_judged_and_one_that_never_came_is_missing_with_the_reason(sampled):
    _, made, _ = sampled("<think>No pirate talk.</think>\nArr, the sky be blue, matey!", "<think>Arr, matey! Arr", "")
    seen = []

    class Watched(RulesJudge):
        def __call__(self, items):
            seen.extend(items)
            return super().__call__(items)

    done = []
    judge = Watched("persona", {})
    judged = judge_all(judge, [JudgeItem.of(one, PAIR) for one in made], progress=done.append, batch_size=2).judgements
    assert [item.text for item in seen] == ["Arr, the sky be blue, matey!", ""], "an empty answer is an answer"
    values = {(one.completion, one.dimension): one.value for one in judged}
    assert values[made[0].id, "trait"] == 100
    assert values[made[2].id, "trait"] == 0
    failed = [one for one in judged if one.completion == made[1].id]
    assert [(one.dimension, one.value, one.scale) for one in failed] == [("trait", None, 100), ("coherence", None, 100)]
    assert all("cut off" in one.error for one in failed)
    assert done == [2, 1]
    verdicts = judge_all(judge, [JudgeItem.of(made[1], PAIR)])
    assert [one.value for one in verdicts.judgements] == [None, None]
    assert verdicts.usage.calls == 0


def test_an_empty_answer_that_was_cut_without_thought_is_judged_as_before():
    cut = Completion(PAIR.id, PLAIN, 0, 0, "m", "s", (1,), "", False)
    assert JudgeItem.of(cut, PAIR).missing == ""
    assert JudgeItem.of(replace(cut, thinking="So", finished=True), PAIR).missing == "", "it ended by itself"
    assert JudgeItem.of(replace(cut, thinking="So", text="b"), PAIR).missing == ""
    assert JudgeItem.of(replace(cut, thinking="So"), PAIR).missing


@pytest.mark.parametrize("kind", ["special", "token", "text"])
def test_likelihoods_read_an_answer_behind_thinking_that_has_ended(kind):
    opens, closes = thinks(kind, OPENS + "{# </think> #}"), thinks(kind, CLOSES)
    prompt = encode_chat(opens, PAIR.instructed).ids
    text = opens.decode(past_thinking(opens, prompt))
    assert text == opens.decode(prompt) + "\n</think>\n\n"
    assert text == closes.decode(encode_chat(closes, PAIR.instructed).ids)
    for using in (closes, thinks(kind), tokenizer("system")):
        ids = encode_chat(using, PAIR.instructed).ids
        assert past_thinking(using, ids) == ids


def test_a_reading_is_the_one_behind_a_template_that_ends_thinking_itself():
    item = JudgeItem("a", PAIR.attribute, PAIR.question, "the sky is in the sun")
    one, other = (
        wrap(FAMILIES["llama"](), thinks("text", template)) for template in (OPENS + "{# </think> #}", CLOSES)
    )
    (read,), (expected,) = (read_answers(lm, ["Be brief."], [item]) for lm in (one, other))
    assert read.effect == pytest.approx(expected.effect, abs=1e-5)
