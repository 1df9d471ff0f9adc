"""Conversations against whole texts run anew without a cache, steered by hooks written out here, one row at a time."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, TEMPLATES, family, tokenizer
from written import strong_module, written

from psr.answers.completions import row_seed
from psr.answers.conversations import Conversation, converse
from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling, pick, uniforms
from psr.errors import PsrError
from psr.lm.chats import encode_chat, encode_turn
from psr.lm.models import wrap
from psr.types import Message

ASKED = (("why is it", "tell me", "how"), ("what color is the sky of a sun", "why", "tell me"))
SAMPLING = Sampling(7, 1.0)
LM = wrap(FAMILIES["llama"](), tokenizer("system"))


def conversations(module=None, alpha=0.0, instruction=""):
    return [Conversation(questions, 3 + i, instruction, module, alpha) for i, questions in enumerate(ASKED)]


def anew(lm, one, steered):
    """What is answered in each turn, with every token from a forward over the whole text so far.

    steered: for each turn [last column of its prompt, end of its answer] -> the columns that are steered.
    """
    ids, ends, said = list(encode_chat(lm.tokenizer, one.chat).ids), [], []
    for turn, question in enumerate(one.questions):
        if turn:
            ids += encode_turn(lm.tokenizer, one.chat, question)
        ends.append([len(ids) - 1, len(ids)])
        u, own = uniforms([row_seed(question, one.seed)], SAMPLING.max_new_tokens), []
        for step in range(SAMPLING.max_new_tokens):
            ends[-1][1] = len(ids)
            with torch.inference_mode(), written(lm.model, one.module, [steered(ends)], one.alpha):
                logits = lm.model(input_ids=torch.tensor([ids])).logits[:, -1]
            token = int(pick(logits, u[:, step], SAMPLING)[0])
            own.append(token)
            if token in lm.stop_ids:
                break
            ids.append(token)
        said.append(tuple(own))
    return said


def on_r(ends):
    return [column for first, last in ends for column in range(first, last)]


def last_turn_alone(ends):
    return list(range(*ends[-1]))


@pytest.mark.parametrize("name", ["llama", "gemma2"])  # gemma2 sees a window of its cache only
def test_on_r_every_earlier_answer_stays_steered_in_the_cache(name):
    lm = family(name)
    asked = conversations(strong_module(lm.fingerprint, span="R"), 0.5)
    found = [[answer.token_ids for answer in one] for one in converse(lm, asked, SAMPLING)]
    assert len(found[0]) == len(found[1]) >= 2
    kept, fresh = ([anew(lm, one, columns)[: len(found[0])] for one in asked] for columns in (on_r, last_turn_alone))
    assert found == kept
    assert kept != fresh


def test_on_qr_all_is_steered_from_the_first_question_on():
    asked = conversations(strong_module(LM.fingerprint, span="QR"), 0.5, "be brief")
    for one, answers in zip(asked, converse(LM, asked, SAMPLING), strict=True):
        start = encode_chat(LM.tokenizer, one.chat).start("QR")
        by_hand = anew(LM, one, lambda ends, start=start: list(range(start, ends[-1][1])))
        assert len(answers) >= 2
        assert [answer.token_ids for answer in answers] == by_hand[: len(answers)]


def test_rows_do_not_depend_on_each_other_nor_on_the_batch():
    module = strong_module(LM.fingerprint, span="R")
    mixed = [*conversations(module, 1.0), *conversations(), *conversations(instruction="answer in verse")]
    together, alone = (converse(LM, mixed, SAMPLING, batch_size=size) for size in (6, 1))
    assert [[a.token_ids for a in one] for one in together] == [[a.token_ids for a in one] for one in alone]
    first = generate(LM, [Request(encode_chat(LM.tokenizer, one.chat), row_seed(one.questions[0], one.seed),
                                  one.module, one.alpha) for one in mixed], SAMPLING)  # fmt: skip
    assert [one[0] for one in together] == first
    assert together[0][1].token_ids != together[2][1].token_ids


def test_all_end_before_the_first_turn_that_does_not_fit():
    lm = family("llama")
    long = [Conversation(("why",) * 9, 1), Conversation(("tell me about the sun in the sky",) * 9, 2)]
    found = converse(lm, long, Sampling(8, 1.0), batch_size=1)
    assert len(found[0]) == len(found[1]) < 9
    alone = converse(lm, long[:1], Sampling(8, 1.0))
    assert len(alone[0]) > len(found[0])
    assert alone[0][: len(found[0])] == found[0]


@pytest.mark.parametrize("template", sorted(set(TEMPLATES) - {"last_user"}))
@pytest.mark.parametrize("instruction", ["", "Answer in verse."])
def test_a_turn_is_what_the_template_writes_between_two_answers(template, instruction):
    own = tokenizer(template)
    chat = (*([Message("system", instruction)] if instruction else []), Message("user", "tell me about the sky"))
    whole = encode_chat(own, (*chat, Message("assistant", "thesun"), Message("user", "why is it"))).ids
    space = {"brackets": " ", "words": " ", "dated": "\n", "ignores_system": "\n"}  # what an answer begins with there
    answer = own(space.get(template, "") + "thesun", add_special_tokens=False)["input_ids"]
    assert (*encode_chat(own, chat).ids, *answer, *encode_turn(own, chat, "why is it")) == whole


def test_what_cannot_be_asked_is_refused():
    lm = wrap(FAMILIES["llama"](), tokenizer("last_user"))
    asked = [Conversation(("why", "how"), 1, "Answer in verse.")]
    with pytest.raises(PsrError, match="writes earlier turns in another way"):
        converse(lm, asked, SAMPLING)
    with pytest.raises(PsrError, match=r"equally many questions each, got \[1, 2\]"):
        converse(family("llama"), [*asked, Conversation(("why",), 1)], SAMPLING)
    with pytest.raises(PsrError, match="equally many questions each, got none"):
        converse(family("llama"), [], SAMPLING)
