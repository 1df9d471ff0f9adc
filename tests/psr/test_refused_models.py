"""Models that are no causal language models, and tokenizers that are too large, are refused when they are wrapped."""

import copy

import pytest
import torch
from families import FAMILIES, VOCABULARY, tokenizer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from written import IDS, strong_module

from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import Prompt
from psr.lm.models import wrap
from psr.lm.recording import record
from psr.steering.hooks import steer

USING = tokenizer("system")
_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": VOCABULARY,
}


def t5():
    return T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, vocab_size=300))


def bart():
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 16}
    both = {f"{part}_{name}": value for name, value in sizes.items() for part in ("encoder", "decoder")}
    return BartForConditionalGeneration(BartConfig(d_model=16, vocab_size=VOCABULARY, **both))


def bert():
    return BertForMaskedLM(BertConfig(**_BERT))


def bert_that_reads_both_ways():
    """With a language-model head, and never told that it is a decoder."""
    return BertLMHeadModel(BertConfig(**_BERT))


def classifier():
    return LlamaForSequenceClassification(FAMILIES["llama"]().config)


def trunk():
    return copy.deepcopy(FAMILIES["llama"]().base_model)


def random(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def refused(match, call):
    with pytest.raises(PsrError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:.*is_decoder")
@pytest.mark.parametrize(
    "make", [t5, bart, bert, bert_that_reads_both_ways, classifier, trunk], ids=lambda m: m.__name__
)
def test_what_is_no_causal_language_model_is_refused_when_it_is_wrapped_and_when_it_is_steered(make):
    model = random(make())
    width = model.get_input_embeddings().weight.shape[1]
    reason = "cannot be read|takes no key-value cache|at once differ|cannot tell how many tokens"
    assert type(model).__name__ in refused(reason, lambda: wrap(model, USING))
    refused(reason, lambda: steer(model, strong_module("any", layers=(0, 1), d=width)).__enter__())


def with_rows(rows):
    model = copy.deepcopy(FAMILIES["llama"]())
    model.resize_token_embeddings(rows)
    return model


LARGEST = max(USING.get_vocab().values())


@pytest.mark.filterwarnings("ignore:.*resiz")
@pytest.mark.parametrize("rows", [LARGEST, LARGEST - 10, 8])
def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(rows):
    said = refused("the tokenizer has tokens that the model does not know", lambda: wrap(with_rows(rows), USING))
    assert f"ids below {rows}" in said
    assert f"up to {LARGEST}" in said


def test_a_tokenizer_that_fills_the_embedding_is_accepted():
    assert wrap(with_rows(LARGEST + 1), USING).tokenizer is USING


@pytest.mark.parametrize(
    "add",
    [
        lambda using: using.add_special_tokens({"pad_token": "<a new pad>"}),
        lambda using: using.add_tokens(["sunny"]),
        lambda using: using.add_special_tokens({"extra_special_tokens": ["<a>", "<b>"]}),
    ],
)
def test_a_token_added_without_resizing_is_refused_where_it_is_used_and_accepted_after_it(add):
    model, mine = with_rows(LARGEST + 1), copy.deepcopy(USING)
    add(mine)
    lm, unknown = wrap(model, mine), (*IDS[:2], LARGEST + 1)
    answers = generate(lm, [Request(Prompt(IDS, 2), 0), Request(Prompt(IDS[:3], 1), 0)], Sampling(3, 0.0))
    assert all(answer.token_ids for answer in answers)  # padded with a token that the model knows
    for call in (
        lambda: generate(lm, [Request(Prompt(unknown, 2), 0)], Sampling(3, 0.0)),
        lambda: record(lm, [unknown], [1], [0], span="R"),
    ):
        refused("the tokenizer has tokens that the model does not know", call)
    model.resize_token_embeddings(len(mine))
    lm = wrap(model, mine)
    answers = generate(lm, [Request(Prompt(IDS, 2), 0), Request(Prompt(IDS[:3], 1), 0)], Sampling(3, 0.0))
    assert all(answer.token_ids for answer in answers)


def test_a_tokenizer_smaller_than_the_embedding_is_accepted():
    assert LARGEST + 1 < VOCABULARY
    wrap(FAMILIES["llama"](), USING)
