"""Difference of means against loops over the same recordings."""

import numpy as np
import pytest
import torch

from psr.errors import PsrError
from psr.fitting.methods.difference import difference_of_means
from psr.lm.recording import Targets


def recording(seed: int, lengths: list[int], span: str = "R", model: str = "m", layers=(0, 1, 2)) -> Targets:
    offsets = tuple(int(x) for x in np.cumsum([0, *lengths]))
    values = torch.randn((len(layers), offsets[-1], 4), generator=torch.Generator().manual_seed(seed))
    return Targets(values, offsets, tuple(layers), model, span)


def mean(targets: Targets, layer: int, tokens) -> np.ndarray:
    """The mean over tokens(sequence [n, d]) of all sequences, each token with equal weight."""
    rows = [tokens(targets.sequence(i)[targets.layers.index(layer)].numpy()) for i in range(len(targets))]
    return np.concatenate(rows).astype(np.float64).mean(axis=0)


def test_own_averages_each_sides_answer_tokens_with_equal_weight():
    instructed, plain = recording(0, [3, 6]), recording(1, [5, 2, 4])
    module = difference_of_means(instructed, plain, (2, 0), "QR", module_id="dim", origin={"attribute": "a"})
    for i, layer in enumerate((0, 2)):
        by_hand = mean(instructed, layer, lambda x: x[1:]) - mean(plain, layer, lambda x: x[1:])
        assert module.tensors["z"][i].numpy() == pytest.approx(by_hand, abs=1e-6)
    assert (module.form, module.layers, module.span, module.model, module.id) == ("Const", (0, 2), "QR", "m", "dim")
    assert module.origin == {"attribute": "a", "difference": "own", "examples": 2}


def test_same_is_the_mean_of_what_the_prompt_does_to_each_token():
    instructed, plain = recording(0, [3, 6]), recording(1, [3, 6])
    z = difference_of_means(instructed, plain, (1,), "R", module_id="dim", kind="same").tensors["z"][0]
    deltas = [instructed.sequence(i)[1, 1:] - plain.sequence(i)[1, 1:] for i in range(2)]
    torch.testing.assert_close(z, torch.cat(deltas).mean(0))


def test_last_compares_the_last_prompt_tokens():
    instructed, plain = recording(0, [3, 6]), recording(1, [5, 2, 4])
    z = difference_of_means(instructed, plain, (1,), "R", module_id="dim", kind="last").tensors["z"][0]
    assert z.numpy() == pytest.approx(mean(instructed, 1, lambda x: x[:1]) - mean(plain, 1, lambda x: x[:1]), abs=1e-6)


def test_question_spans_are_averaged_over_the_answer_when_its_length_is_told():
    instructed, plain = recording(0, [6, 9], span="QR"), recording(1, [6, 5], span="QR")
    responses = ([2, 4], [3, 1])
    z = {}
    for kind in ("own", "last"):
        module = difference_of_means(instructed, plain, (0,), "QR", module_id="dim", kind=kind, responses=responses)
        z[kind] = module.tensors["z"][0]
    answers = [
        torch.cat([t.sequence(i)[0, -n:] for i, n in enumerate(ns)]).mean(0)
        for t, ns in zip((instructed, plain), responses, strict=True)
    ]
    ends = [
        torch.stack([t.sequence(i)[0, -n - 1] for i, n in enumerate(ns)]).mean(0)
        for t, ns in zip((instructed, plain), responses, strict=True)
    ]
    torch.testing.assert_close(z["own"], answers[0] - answers[1])
    torch.testing.assert_close(z["last"], ends[0] - ends[1])


def test_half_precision_recordings_are_averaged_in_full():
    lengths = [2001]
    ones = Targets(torch.full((1, 2001, 4), 100.0, dtype=torch.float16), (0, 2001), (0,), "m", "R")
    nothing = Targets(torch.zeros((1, 2001, 4), dtype=torch.float16), (0, lengths[0]), (0,), "m", "R")
    module = difference_of_means(ones, nothing, (0,), "R", module_id="dim")
    assert module.tensors["z"].dtype == torch.float32
    assert module.tensors["z"].tolist() == [[100.0] * 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plain": recording(1, [3, 6], model="other")}, "different models"),
        ({"plain": recording(1, [3, 6], layers=(0, 1))}, "plain recording lacks layers"),
        ({"layers": (5,)}, "instructed recording lacks layers"),
        ({"layers": ()}, "lacks layers"),
        ({"plain": recording(1, [3, 5]), "kind": "same"}, "different answers"),
        ({"plain": recording(1, [3, 6], span="QR")}, "where its answers begin"),
        ({"kind": "median"}, "own, same, last"),
        ({"responses": ([2], [2, 5])}, "answer lengths for other sequences"),
        ({"responses": ([4, 5], [2, 5])}, "longer than its recorded span"),
        ({"responses": ([3, 5], [2, 5]), "kind": "last"}, "longer than its recorded span"),
        ({"plain": recording(1, [1, 1])}, "nothing to average"),
        ({"plain": recording(1, [])}, "nothing to average"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(change, message):
    arguments = {"instructed": recording(0, [3, 6]), "plain": recording(1, [3, 6]), "layers": (2,), **change}
    with pytest.raises(PsrError, match=message):
        difference_of_means(**arguments, span="R", module_id="dim")
