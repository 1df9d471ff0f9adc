"""Recorded activations are the residual stream after each block, before the final norm, at the span's tokens."""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from families import FAMILIES, LAYERS, family
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.lm.blocks import ending_after, recorded
from psr.lm.recording import Targets, record

families = pytest.mark.parametrize("name", list(FAMILIES))
SEQUENCES = [(5, 40, 61, 90, 33, 12), (9, 21, 35), (7, 8, 9, 10, 11, 12, 13, 14, 15)]
STARTS = [2, 0, 8]


@families
def test_recording_is_the_hidden_states_of_each_sequence_alone(name):
    lm = family(name)
    targets = record(lm, SEQUENCES, STARTS, range(LAYERS), span="R", batch_size=2)
    for i, (ids, start) in enumerate(zip(SEQUENCES, STARTS, strict=True)):
        with torch.inference_mode():
            hidden = lm.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in range(LAYERS - 1):  # the last entry of hidden_states is after the final norm
            torch.testing.assert_close(targets.sequence(i)[layer], hidden[layer + 1][0, start:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_last_layer_is_recorded_before_the_final_norm(name):
    lm = family(name)
    values = record(lm, SEQUENCES[:1], [0], [LAYERS - 1], span="R").sequence(0)[0]
    with torch.inference_mode():
        after_norm = lm.model(torch.tensor([SEQUENCES[0]]), output_hidden_states=True).hidden_states[-1][0]
    assert not torch.allclose(values, after_norm, atol=1e-3)
    norm = next(m for n, m in lm.base.named_modules() if n.split(".")[-1] in ("norm", "ln_f"))
    torch.testing.assert_close(norm(values), after_norm, rtol=1e-4, atol=1e-5)


@families
@pytest.mark.parametrize("layers", [(0,), (1,), (2,), (0, 1)])
def test_some_layers_are_recorded_as_all_are_and_later_blocks_do_not_run(name, layers):
    lm, whole = family(name), record(family(name), SEQUENCES, STARTS, range(LAYERS), span="R")
    calls = []

    def counted(i, forward):
        return lambda *args, **kwargs: (calls.append(i), forward(*args, **kwargs))[1]

    with pytest.MonkeyPatch.context() as patched:
        for i, block in enumerate(lm.blocks):
            patched.setattr(block, "_forward_hooks", OrderedDict())  # those of transformers, which an earlier test set
            patched.setattr(block, "forward", counted(i, block.forward))
        some = record(lm, SEQUENCES, STARTS, layers, span="R")
    assert torch.equal(some.values, whole.values[list(layers)])
    assert calls == list(range(max(layers) + 1))


def test_whoever_watches_the_blocks_sees_every_one_of_them():
    lm = family("qwen2")
    with recorded(lm.model, range(LAYERS)) as seen:
        record(lm, SEQUENCES, STARTS, [0], span="R")
    assert sorted(seen) == list(range(LAYERS))


def test_another_threads_forward_goes_on_to_its_end(monkeypatch):
    lm = family("qwen2")
    for block in lm.blocks:
        monkeypatch.setattr(block, "_forward_hooks", OrderedDict())
    with ThreadPoolExecutor(1) as other, ending_after(lm.model, 0), torch.no_grad():
        theirs = other.submit(lm.model, torch.tensor([[5, 6, 7]]))
        wait([theirs])
        lm.model(torch.tensor([[5, 6, 7]]))
        pytest.fail("this thread's forward ends after block 0")
    assert theirs.result().logits.shape == (1, 3, lm.vocabulary)


def test_an_error_in_a_shortened_forward_is_not_lost():
    lm = family("llama")

    def fail(*_):
        raise RuntimeError("mine")

    handle = lm.blocks[0].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="mine"):
            record(lm, SEQUENCES, STARTS, [0], span="R")
    finally:
        handle.remove()


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batch_size_changes_nothing(batch_size):
    lm = family("llama")
    one = record(lm, SEQUENCES, STARTS, range(LAYERS), span="R", batch_size=1)
    other = record(lm, SEQUENCES, STARTS, range(LAYERS), span="R", batch_size=batch_size)
    assert one.offsets == other.offsets
    torch.testing.assert_close(one.values, other.values, rtol=1e-4, atol=1e-5)


def test_a_recording_can_be_made_in_another_dtype():
    assert (
        record(family("llama"), SEQUENCES, STARTS, [1], span="R", dtype=torch.bfloat16).values.dtype == torch.bfloat16
    )


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=6))
def test_the_end_of_each_sequence_is_the_span_r_of_a_recording_on_qr(sizes):
    lengths = [a + b for a, b in sizes]
    values = torch.arange(sum(lengths)).view(1, -1, 1).float()
    offsets = tuple(sum(lengths[:i]) for i in range(len(lengths) + 1))
    targets = Targets(values, offsets, (0,), "m", "QR")
    last = targets.last([a for a, _ in sizes], "R")
    assert last.span == "R"
    for i, (a, _) in enumerate(sizes):
        assert torch.equal(last.sequence(i), targets.sequence(i)[:, -a:])


def test_a_span_longer_than_the_recording_is_refused():
    with pytest.raises(PsrError, match="shorter than the span"):
        Targets(torch.zeros(1, 3, 2), (0, 3), (0,), "m", "QR").last([4], "R")


def test_hooks_are_gone_after_an_exception():
    lm = family("llama")
    hooks = [len(block._forward_hooks) for block in lm.blocks]  # transformers may keep some of its own
    with pytest.raises(RuntimeError, match="stop"), recorded(lm.model, [0]):
        raise RuntimeError("stop")
    assert [len(block._forward_hooks) for block in lm.blocks] == hooks


@pytest.mark.parametrize(
    ("layers", "starts", "message"),
    [
        ([9], STARTS, "no such layer to record, expected 0 to 2, got"),
        ([], STARTS, "no such layer to record"),
        ([0], [2, 3, 8], "a span lies outside its sequence .sequence 1., expected 0 to 2, got 3"),
    ],
)
def test_nonsense_is_refused_with_one_line(layers, starts, message):
    with pytest.raises(PsrError, match=message):
        record(family("llama"), SEQUENCES, starts, layers, span="R")
