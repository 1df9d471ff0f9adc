"""The activation cache gives back what was recorded, however it was cut, and says what is wrong with it."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.lm.recording import Targets
from tasks.tables.activations import INDEX, read_targets, size_of, write_index, write_shards


def targets(lengths: list[int], layers: int = 2, d: int = 3, dtype: torch.dtype = torch.float32) -> Targets:
    values = torch.randn(layers, sum(lengths), d, generator=torch.Generator().manual_seed(0)).to(dtype)
    return Targets(values, tuple(sum(lengths[:i]) for i in range(len(lengths) + 1)), tuple(range(layers)), "m", "QR")


def write(folder, t: Targets, shard_bytes: int = 10**6) -> None:
    entry = write_shards(t, folder, "persona-pirate-instructed", shard_bytes)
    write_index(folder, [entry], model="m", layers=list(t.layers), d_model=t.values.shape[-1], dtype="float32")


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(1, 400),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_recording_comes_back_bit_exact_however_it_is_cut(tmp_path_factory, lengths, shard_bytes, dtype):
    folder, t = tmp_path_factory.mktemp("cache"), targets(lengths, dtype=dtype)
    write(folder, t, shard_bytes)
    back = read_targets(folder, "persona-pirate-instructed")
    assert torch.equal(back.values, t.values)
    assert (back.offsets, back.layers, back.model, back.span) == (t.offsets, t.layers, t.model, t.span)


def test_shards_stay_below_their_size_unless_one_sequence_is_larger(tmp_path):
    t = targets([5] * 10 + [50])
    limit = size_of(10, 2, 3, torch.float32)
    entry = write_shards(t, tmp_path, "x", limit)
    sizes = [p.stat().st_size for p in sorted(tmp_path.glob("x-*.safetensors"))]
    assert len(entry["files"]) == len(sizes) == 6
    assert all(size < limit + 400 for size in sizes[:-1])  # some 300 bytes of header and lengths


def test_the_size_told_before_is_the_size_made(tmp_path):
    t = targets([7, 8])
    assert size_of(15, 2, 3, torch.float32) == t.values.numel() * 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / INDEX).unlink(), "no readable index"),
        (lambda f: (f / INDEX).write_text("{"), "no readable index"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "missing or damaged"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"junk"), "missing or damaged"),
        (
            lambda f: (f / INDEX).write_text((f / INDEX).read_text().replace('"tokens": 15', '"tokens": 16')),
            "does not match its index",
        ),
    ],
)
def test_a_damaged_cache_gets_one_clear_line(tmp_path, damage, message):
    write(tmp_path, targets([7, 8]))
    damage(tmp_path)
    with pytest.raises(PsrError, match=message) as caught:
        read_targets(tmp_path, "persona-pirate-instructed")
    assert "\n" not in str(caught.value)


def test_an_unknown_recording_is_named(tmp_path):
    write(tmp_path, targets([3]))
    with pytest.raises(PsrError, match="lacks a recording"):
        read_targets(tmp_path, "persona-gloomy-instructed")


def test_equal_recordings_give_equal_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name, targets([4, 5]))
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert json.loads((tmp_path / "a" / INDEX).read_text())["entries"][0]["sequences"] == 2
