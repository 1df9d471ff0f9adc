"""The key of a stage's inputs changes with every byte it reads, and an edit during the run is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from psr.errors import PsrError
from tasks.engine.inputs import changes, read_inputs

SECTIONS = {"distill": {"lr": 0.1}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/a").write_text("a")
    (tmp_path / "data/sub/b").write_text("b")
    (tmp_path / "code.py").write_text("1")
    return tmp_path


def key(root: Path, sections: dict = SECTIONS) -> str:
    return read_inputs(root, ["data", "code.py"], sections).key


def test_the_key_depends_on_content_names_and_sections_only(root):
    first = key(root)
    os.utime(root / "data/a", (1, 1))
    (root / "__pycache__").mkdir()
    (root / "data/__pycache__").mkdir()
    (root / "data/__pycache__/x.pyc").write_text("x")
    assert key(root) == first
    assert key(root, {"distill": {"lr": 0.2}}) != first
    (root / "data/sub/b").write_text("B")
    assert key(root) != first
    (root / "data/sub/b").write_text("b")
    (root / "data/sub/b").rename(root / "data/sub/c")
    assert key(root) != first


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(root):
    before = read_inputs(root, ["data", "code.py"], SECTIONS)
    (root / "code.py").write_text("2")
    assert changes(before, SECTIONS) == ["code.py"]


def test_files_that_come_and_go_and_sections_are_named(root):
    before = read_inputs(root, ["data", "code.py"], SECTIONS)
    (root / "data/new").write_text("n")
    (root / "data/a").unlink()
    assert changes(before, {"distill": {"lr": 0.2}}) == ["data/a", "data/new", "params.yaml distill"]


def test_a_touched_file_is_no_change(root):
    before = read_inputs(root, ["data", "code.py"], SECTIONS)
    os.utime(root / "code.py", (1, 1))
    assert changes(before, SECTIONS) == []


def test_a_missing_input_is_named_with_what_to_do(root):
    with pytest.raises(PsrError, match=r"an input is missing \(data/none\).*flows\.reproduce"):
        read_inputs(root, ["data/none"], {})
