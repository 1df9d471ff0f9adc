"""A cell is made once for what it reads, is whole or made again, and can be thrown away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.cells import HOME, SUMS, Cells, copy, prune, sizes

ROOT = Path(__file__).resolve().parents[2]
READS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path / HOME, "code")


class Writer:
    """Writes `text` and counts how often it was asked to."""

    def __init__(self, text: str = "text") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text(self.text)


def test_a_cell_is_made_once_for_what_it_reads(cells):
    write = Writer()
    first = cells.keep("kind", ("a", 1), write)
    assert cells.keep("kind", ("a", 1), write) == first
    assert write.calls == 1
    assert (first / "below/file").read_text() == "text"
    assert cells.find("kind", ("a", 2)) is None


@pytest.mark.parametrize(
    "other", [("kind", ("a", 2), "code"), ("other", ("a", 1), "code"), ("kind", ("a", 1), "newer code")]
)
def test_another_kind_another_input_or_other_code_is_another_cell(cells, other):
    kind, reads, code = other
    write = Writer()
    first = cells.keep("kind", ("a", 1), write)
    assert Cells(cells.folder, code).keep(kind, reads, write) != first
    assert write.calls == 2


@given(READS, READS)
def test_equal_reads_have_one_key_and_different_ones_two(one, other):
    cells = Cells(Path("nowhere"), "code")
    assert cells._target("kind", one) == cells._target("kind", one)
    if repr(one) != repr(other) and one != other:
        assert cells._target("kind", one) != cells._target("kind", other)


@pytest.mark.parametrize("damage", [
    lambda cell: (cell / "below/file").write_text("other"),
    lambda cell: (cell / "below/file").unlink(),
    lambda cell: (cell / "more").write_text("x"),
    lambda cell: (cell / SUMS).unlink(),
    lambda cell: (cell / SUMS).write_text("{"),
])  # fmt: skip
def test_a_damaged_cell_is_made_again_and_said_so(cells, capsys, damage):
    write = Writer()
    cell = cells.keep("kind", "a", write)
    damage(cell)
    assert cells.keep("kind", "a", write) == cell
    assert (write.calls, (cell / "below/file").read_text()) == (2, "text")
    assert "a finished part is damaged and made again: .psr/cells/kind/" in capsys.readouterr().out
    assert cells.keep("kind", "a", write) == cell
    assert write.calls == 2


def test_a_cell_that_fails_leaves_nothing(cells):
    def write(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyError("x")

    with pytest.raises(KeyError):
        cells.keep("kind", "a", write)
    assert list((cells.folder / "kind").iterdir()) == []


def test_a_cell_whose_writer_is_killed_is_not_found_and_what_it_left_is_pruned(cells, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from tasks.engine.cells import Cells\n"
        "def write(folder):\n"
        "    (folder / 'half').write_text('half'); print('writing', flush=True); time.sleep(60)\n"
        f"Cells(Path({str(cells.folder)!r}), 'code').keep('kind', 'a', write)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert cells.find("kind", "a") is None
    assert len(list((cells.folder / "kind").iterdir())) == 1
    prune(tmp_path, 30)
    (left,) = (cells.folder / "kind").iterdir()  # it may be in use
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    prune(tmp_path, 30)
    assert list((cells.folder / "kind").iterdir()) == []


def test_two_that_make_the_same_cell_at_once_end_with_one(cells):
    inner = Writer()
    outer = cells.keep("kind", "a", lambda folder: (cells.keep("kind", "a", inner), Writer()(folder)))
    assert cells.find("kind", "a") == outer
    assert len(list((cells.folder / "kind").iterdir())) == 1


def test_what_was_not_used_for_long_is_pruned_and_a_look_counts_as_use(cells, tmp_path):
    old, used = (cells.keep("kind", name, Writer()) for name in ("old", "used"))
    for cell in (old, used):
        os.utime(cell / SUMS, (time.time() - 10 * 86400,) * 2)
    cells.find("kind", "used")
    assert sizes(tmp_path)["kind"][0] == 2
    count, freed = prune(tmp_path, 5)
    assert (count, freed > 0) == (1, True)
    assert used.exists()
    assert not old.exists()
    assert prune(tmp_path, 0)[0] == 1
    assert sizes(tmp_path) == {"kind": (0, 0)}


def test_a_copy_takes_no_room_twice_and_leaves_the_sums_behind(cells, tmp_path):
    cell = cells.keep("kind", "a", Writer())
    copy(cell, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["below", "file"]
    assert (tmp_path / "out/below/file").samefile(cell / "below/file")


def test_a_copy_over_an_older_output_leaves_the_cell_behind_that_one_whole(cells, tmp_path):
    old, new = cells.keep("kind", "old", Writer("old")), cells.keep("kind", "new", Writer("new"))
    copy(old, tmp_path / "out")
    copy(new, tmp_path / "out")
    assert (tmp_path / "out/below/file").read_text() == "new"
    assert (old / "below/file").read_text() == "old"
