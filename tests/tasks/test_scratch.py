"""Finished items survive a killed stage, whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.scratch import Scratch, discard, scratch, scratch_of


def write(text: str):
    return lambda path: path.write_bytes(text.encode())


def test_an_item_is_found_again_until_the_stage_is_recorded(tmp_path):
    def stopped_stage() -> None:
        with scratch(tmp_path, "distill@quick", "key") as s:
            s.put("one", write("1"))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        stopped_stage()
    with scratch(tmp_path, "distill@quick", "key") as s:
        assert s.get("one").read_text() == "1"
        assert s.get("two") is None
    with scratch(tmp_path, "distill@quick", "key") as s:  # DVC was killed before it recorded the outputs
        assert [p.name for p in s.items()] == ["one"]
    discard(tmp_path, "distill@quick")
    assert not (tmp_path / ".psr/scratch/distill@quick").exists()
    discard(tmp_path, "distill@quick")


def test_a_later_stage_removes_what_was_finished_long_ago_only(tmp_path):
    for name, age in (("old@quick", 9e5), ("new@quick", 0), ("unfinished@quick", None)):
        scratch_of(tmp_path, name, "key").put("one", write("1"))
        if age is not None:
            with scratch(tmp_path, name, "key") as s:
                pass
            os.utime(s.folder / ".finished", (time.time() - age, time.time() - age))
    with scratch(tmp_path, "later@quick", "key"):
        pass
    assert sorted(p.name for p in (tmp_path / ".psr/scratch").iterdir()) == ["new@quick", "unfinished@quick"]


def test_other_inputs_find_nothing_and_clear_what_is_stale(tmp_path):
    scratch_of(tmp_path, "distill@quick", "old").put("one", write("1"))
    new = scratch_of(tmp_path, "distill@quick", "new")
    assert new.get("one") is None
    assert not (tmp_path / ".psr/scratch/distill@quick/old").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    s = Scratch(tmp_path / "here")

    def half(path: Path) -> None:
        path.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        s.put("one", half)
    assert s.get("one") is None
    assert s.items() == []
    assert list((tmp_path / "here").iterdir()) == []


def test_what_a_killed_writer_left_is_no_item(tmp_path):
    s = Scratch(tmp_path)
    (tmp_path / ".aside-123-one").write_text("half")
    assert s.get("one") is None
    assert s.items() == []


def test_a_folder_is_an_item_and_can_be_replaced(tmp_path):
    s = Scratch(tmp_path)

    def folder(text: str):
        def fill(path: Path) -> None:
            path.mkdir()
            (path / "file").write_text(text)

        return fill

    s.put("module", folder("1"))
    assert (s.put("module", folder("2")) / "file").read_text() == "2"


def test_items_are_sorted_and_chosen_by_prefix(tmp_path):
    s = Scratch(tmp_path)
    for name in ("b-2", "a-1", "b-1"):
        s.put(name, write(name))
    assert [p.name for p in s.items()] == ["a-1", "b-1", "b-2"]
    assert [p.name for p in s.items("b-")] == ["b-1", "b-2"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), unique=True, max_size=4))
def test_any_name_is_one_item_inside_the_folder(tmp_path_factory, names):
    s = Scratch(tmp_path_factory.mktemp("s") / "here")
    for name in names:
        s.put(name, write(name))
    assert [s.get(name).read_bytes().decode() for name in names] == names
    assert all(s.get(name).parent == s.folder for name in names)
