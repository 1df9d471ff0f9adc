import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.batches import epoch_batches, training_set
from psr.types import AlignedTokens, Example

CPU = torch.device("cpu")


def example(question: int, response: int, start: int, span: str = "QR", trait: float = 1.0) -> Example:
    plain = tuple(range(10, 10 + question + response))
    return Example(AlignedTokens(plain, (7, 8, *plain), start, start + 2, response, span), trait)


EXAMPLES = [example(4, 3, 1, trait=0.25), example(2, 2, 0), example(5, 1, 2)]


def test_a_batch_is_right_padded_to_its_longest_row():
    batch = training_set(EXAMPLES, "response", pad_id=99).batch(torch.tensor([1, 2]), CPU)
    assert batch.ids.tolist() == [[10, 11, 12, 13, 99, 99], [10, 11, 12, 13, 14, 15]]
    assert batch.attention.sum(1).tolist() == [4, 6]
    assert batch.start.tolist() == [0, 2]
    assert batch.span.int().tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]]


def test_span_tokens_are_found_where_the_targets_keep_them():
    data = training_set(EXAMPLES, "response", pad_id=99)
    batch = data.batch(torch.tensor([2, 0]), CPU)
    assert batch.index[batch.span].tolist() == [10, 11, 12, 13, 0, 1, 2, 3, 4, 5]


def test_labels_are_the_answer_or_all_that_the_span_predicts():
    rows = torch.arange(3)
    answer = training_set(EXAMPLES, "response", pad_id=99).batch(rows, CPU)
    assert answer.labels.sum(1).tolist() == [3, 2, 1]
    assert answer.first_label == 2
    spanned = training_set(EXAMPLES, "span", pad_id=99).batch(rows, CPU)
    assert spanned.labels.sum(1).tolist() == [5, 3, 3]
    assert spanned.first_label == 1


def test_on_span_r_both_kinds_of_labels_are_the_answer():
    data = [example(4, 3, 3, "R"), example(2, 2, 1, "R")]
    kinds = [training_set(data, kind, pad_id=0).batch(torch.arange(2), CPU).labels for kind in ("response", "span")]
    assert torch.equal(*kinds)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), size=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_example_once(lengths, size, seed):
    batches = list(epoch_batches(torch.tensor(lengths), size, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert all(len(rows) <= size for rows in batches)


def test_batches_gather_like_lengths():
    length = torch.tensor([3, 30] * 16)
    batches = list(epoch_batches(length, 4, torch.Generator().manual_seed(0)))
    assert all(len(set(length[rows].tolist())) == 1 for rows in batches)


def test_order_follows_the_seed_and_changes_between_epochs():
    def epochs(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.cat(list(epoch_batches(torch.full((20,), 5), 1, generator))).tolist() for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


def test_examples_move_between_pools():
    order = torch.cat(list(epoch_batches(torch.full((200,), 5), 1, torch.Generator().manual_seed(0))))
    assert max(order[:20].tolist()) > 100
    assert min(order[-20:].tolist()) < 100


def test_nothing_to_fit_on_is_a_clear_error():
    with pytest.raises(PsrError, match="no examples to fit a module on"):
        training_set([], "response", pad_id=0)
    with pytest.raises(PsrError, match="example 1"):
        training_set([EXAMPLES[0], example(4, 0, 2)], "response", pad_id=0)
    with pytest.raises(PsrError, match="example 0"):
        training_set([example(4, 3, 5)], "response", pad_id=0)
