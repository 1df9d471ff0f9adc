import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.lm.padding import pad

SEQUENCES = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=5)


@given(sequences=SEQUENCES, pad_id=st.integers(0, 99), side=st.sampled_from(["left", "right"]))
def test_masked_ids_are_the_sequences_again(sequences, pad_id, side):
    ids, attention = pad(sequences, pad_id, side)
    assert ids.shape == attention.shape == (len(sequences), max(map(len, sequences)))
    assert ids.dtype == attention.dtype == torch.long
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, attention, strict=True)] == sequences
    assert (ids[attention == 0] == pad_id).all()


def test_padding_stands_on_the_side_asked_for():
    assert pad([[1], [2, 3, 4]], 9, "left")[0].tolist() == [[9, 9, 1], [2, 3, 4]]
    assert pad([[1], [2, 3, 4]], 9, "right")[0].tolist() == [[1, 9, 9], [2, 3, 4]]
    assert pad([[1], [2, 3, 4]], 9, "left")[1].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert pad([[1], [2, 3, 4]], 9, "right")[1].tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("sequences", "side", "said"),
    [([], "left", "no sequence"), ([[1], []], "left", "no token in row 1"), ([[1]], "middle", "'middle'")],
)
def test_nothing_to_pad_is_refused(sequences, side, said):
    with pytest.raises(PsrError, match=said):
        pad(sequences, 0, side)
