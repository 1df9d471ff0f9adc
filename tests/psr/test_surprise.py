"""How surprised a model is by answers that share prompts: against one forward a sequence, on every family and on the toy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import CONTEXT, FAMILIES, family
from torch import nn

import psr
from psr.errors import PsrError
from psr.lm import surprise
from psr.lm.surprise import token_losses

ROOT = Path(__file__).resolve().parents[2]
every_family = pytest.mark.parametrize("name", sorted(FAMILIES))


def sequence(length, seed, vocabulary=300):
    return np.random.default_rng(seed).integers(5, vocabulary, length).tolist()


def asked(vocabulary=300):
    """Prompts of 3 to 40 tokens, beyond the sliding windows of 16, with up to four answers of 1 to 30 tokens; shuffled."""
    prompts = [sequence(length, length, vocabulary) for length in (3, 9, 20, 40)]
    pairs = [
        (prompt, sequence(length, 100 * i + length, vocabulary))
        for i, prompt in enumerate(prompts)
        for length in (1, 2, 17, 30)[: i + 1]
    ]
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]


def alone(lm, prompt, answer):
    """One forward without padding and cache."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0].double()
    return -logits.log_softmax(-1)[range(len(prompt) - 1, len(prompt) + len(answer) - 1), answer]


def check(lm, pairs, **options):
    losses = token_losses(lm, *zip(*pairs, strict=True), **options)
    for (prompt, answer), loss in zip(pairs, losses, strict=True):
        torch.testing.assert_close(loss.double(), alone(lm, prompt, answer), rtol=1e-4, atol=1e-4)


class Counted:
    """How many tokens the model's embedding has looked up: padding too."""

    def __init__(self, lm):
        self.tokens, self.handle = 0, lm.model.get_input_embeddings().register_forward_hook(self)

    def __call__(self, module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        self.tokens += output.shape[0] * output.shape[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


@every_family
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_losses_are_those_of_each_sequence_alone(name, batch_size):
    check(family(name), asked(), batch_size=batch_size)


@every_family
def test_a_long_prompt_beside_a_long_answer_of_another_one_fits_the_context(name):
    pairs = [(sequence(CONTEXT - 1, 1), sequence(1, 2)), (sequence(2, 3), sequence(CONTEXT - 2, 4))]
    check(family(name), pairs)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_model_that_keeps_more_than_keys_and_values_is_read_without_a_cache(name, monkeypatch):
    monkeypatch.setattr(surprise, "_COPIED", ())
    for batch_size in (3, 32):
        check(family(name), asked(), batch_size=batch_size)
    prompt = sequence(10, 0)
    with Counted(family(name)) as counted:
        token_losses(family(name), [prompt] * 4, [sequence(5, i) for i in range(4)])
    assert counted.tokens == 4 * (10 + 5)


def test_on_the_toy_too():
    lm = psr.load_model(ROOT / "data/testbed/model")
    check(lm, asked(lm.vocabulary), batch_size=4)


def test_a_prompt_is_read_once_for_all_its_answers():
    lm, prompt = family("llama"), sequence(10, 0)
    with Counted(lm) as counted:
        token_losses(lm, [prompt] * 8, [sequence(5, i) for i in range(8)], batch_size=3)
    assert counted.tokens == 10 + 8 * 4, "the last token of an answer is not read"


def test_progress_counts_answers_and_answers_are_in_the_order_asked():
    lm, pairs, read = family("llama"), asked(), []
    token_losses(lm, *zip(*pairs, strict=True), batch_size=3, progress=read.append)
    assert sum(read) == len(pairs)
    assert max(read) == 3


def test_an_equal_answer_behind_an_equal_prompt_gets_an_equal_value_beside_any_others():
    lm, pairs = family("gemma2"), asked()
    together = token_losses(lm, *zip(*pairs, *pairs[:2], strict=True))
    for pair, *losses in zip(pairs[:2], together[:2], together[-2:], strict=True):
        [single] = token_losses(lm, [pair[0]], [pair[1]])
        for loss in losses:
            torch.testing.assert_close(loss, single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("prompt", "answer", "problem"), [
    ([], [7], "nothing to read"),
    ([7], [], "nothing to read"),
    ([7], [300], "does not know|do not know"),
    ([7] * 100, [8] * 29, "do not fit"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(prompt, answer, problem):
    with pytest.raises(PsrError, match=problem):
        token_losses(family("llama"), [[5], prompt], [[6], answer])
