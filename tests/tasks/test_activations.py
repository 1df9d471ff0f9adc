"""The activation cache gives back what was recorded, however it was cut, and says what is wrong with it."""

import json
import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.stores import EightBit, in_eight_bits
from psr.lm.recording import Targets
from tasks.engine.disk import disk_error
from tasks.tables.activations import INDEX, entry_of, held_bytes, read_targets, size_of, write_index, write_shards


def targets(lengths: list[int], layers: int = 2, d: int = 3, dtype: torch.dtype = torch.float32) -> Targets:
    values = torch.randn(layers, sum(lengths), d, generator=torch.Generator().manual_seed(0)).to(dtype)
    return Targets(values, tuple(sum(lengths[:i]) for i in range(len(lengths) + 1)), tuple(range(layers)), "m", "QR")


def write(folder, t, shard_bytes: int = 10**6, keep: str = "full") -> None:
    files = write_shards(t, folder, "persona-pirate-instructed", shard_bytes)
    lengths = [end - start for start, end in zip(t.offsets, t.offsets[1:], strict=False)]
    entry = entry_of("persona-pirate-instructed", "instructed", lengths, t.layers, files)
    write_index(folder, [entry], model="m", d_model=3, dtype="float32", keep=keep)


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


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 400))
def test_a_recording_in_8_bits_comes_back_bit_exact_however_it_is_cut(tmp_path_factory, lengths, shard_bytes):
    folder, store = tmp_path_factory.mktemp("cache"), in_eight_bits(targets(lengths))
    write(folder, store, shard_bytes, "8bit")
    back = read_targets(folder, "persona-pirate-instructed")
    assert isinstance(back, EightBit)
    assert torch.equal(back.codes, store.codes)
    assert torch.equal(back.scale, store.scale)
    assert (back.offsets, back.layers, back.model, back.span) == (store.offsets, store.layers, "m", "QR")


def test_a_recording_written_in_parts_is_that_written_at_once(tmp_path):
    whole, lengths = targets([3, 4, 5]), [3, 4, 5]
    first, second = whole.values[:, :7], whole.values[:, 7:]
    parts = Targets(first, (0, 3, 7), (0, 1), "m", "QR"), Targets(second, (0, 5), (0, 1), "m", "QR")
    files: list[str] = []
    for part in parts:
        files += write_shards(part, tmp_path, "x", 10**6, len(files))
    write_index(tmp_path, [entry_of("x", "instructed", lengths, (0, 1), files)], model="m", d_model=3, dtype="float32")
    back = read_targets(tmp_path, "x")
    assert files == ["x-00000.safetensors", "x-00001.safetensors"]
    assert torch.equal(back.values, whole.values)
    assert back.offsets == whole.offsets


def test_a_cache_of_an_earlier_release_is_read(tmp_path):
    t = targets([7, 8])
    write(tmp_path, t)
    index = json.loads((tmp_path / INDEX).read_text())
    del index["keep"], index["entries"][0]["layers"]
    (tmp_path / INDEX).write_text(json.dumps({**index, "layers": [0, 1]}))
    back = read_targets(tmp_path, "persona-pirate-instructed")
    assert torch.equal(back.values, t.values)
    assert back.layers == (0, 1)
    assert held_bytes(tmp_path, "persona-pirate-instructed") == t.values.numel() * 4


def test_a_cache_that_keeps_nothing_says_so_and_how_much_a_recording_is(tmp_path):
    entry = entry_of("x", "instructed", [7, 8], range(1, 3), [])
    write_index(tmp_path, [entry], model="m", d_model=3, dtype="bfloat16", keep="none")
    assert read_targets(tmp_path, "x") is None
    assert held_bytes(tmp_path, "x") == 15 * 2 * 3 * 2
    with pytest.raises(PsrError, match="lacks a recording"):
        read_targets(tmp_path, "y")


def test_a_file_that_may_not_grow_is_one_clear_line_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(Exception, match="File too large") as raised:
            write_shards(targets([4000]), tmp_path, "x", 10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "a file may not grow that large" in str(disk_error(raised.value))
    assert list(tmp_path.iterdir()) == []


def test_shards_stay_below_their_size_unless_one_sequence_is_larger(tmp_path):
    t = targets([5] * 10 + [50])
    limit = size_of(10, 2, 3, "float32")
    files = write_shards(t, tmp_path, "x", limit)
    sizes = [p.stat().st_size for p in sorted(tmp_path.glob("x-*.safetensors"))]
    assert len(files) == len(sizes) == 6
    assert all(size < limit + 400 for size in sizes[:-1])  # some 300 bytes of header and lengths


def test_the_size_told_before_is_the_size_made(tmp_path):
    t, store = targets([7, 8]), in_eight_bits(targets([7, 8]))
    assert size_of(15, 2, 3, "float32") == size_of(15, 2, 3, "float32", "layers") == t.values.numel() * 4
    assert size_of(15, 2, 3, "bfloat16") == t.values.bfloat16().numel() * 2
    assert size_of(15, 2, 3, "bfloat16", "8bit") == store.codes.numel() + store.scale.numel() * 4
    assert size_of(15, 2, 3, "float32", "none") == 0
    for keep, one in (("full", t), ("8bit", store)):
        write(tmp_path / keep, one, keep=keep)
        [file] = (tmp_path / keep).glob("*.safetensors")
        told = size_of(15, 2, 3, "float32", keep)
        assert told < file.stat().st_size < told + 500  # of headers and lengths
        assert held_bytes(tmp_path / keep, "persona-pirate-instructed") == told


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
