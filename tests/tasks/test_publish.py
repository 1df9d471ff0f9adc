"""When the SQL index and the tracker are filled again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.shown import index, publish, track
from tests.run_records import a_run, put, ran


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose index and tracker are files to which each filling adds a line."""

    def fill(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a") as lines:
            lines.write("filled\n")

    monkeypatch.setattr(index, "rebuild", lambda root: fill(index.database(root)))
    monkeypatch.setattr(track, "run", lambda root, profile: fill(root / ".psr/mlflow.db"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "data/quick").mkdir(parents=True)
    return tmp_path


def fillings(root: Path) -> tuple[int, int]:
    publish.index(root, "quick")
    publish.track(root, "quick")
    files = (index.database(root), root / ".psr/mlflow.db")
    return len(files[0].read_text().splitlines()), len(files[1].read_text().splitlines())


def test_what_is_up_to_date_is_left_alone(root):
    assert fillings(root) == (1, 1)
    assert fillings(root) == (1, 1)


def test_a_study_that_came_from_others_is_indexed(root):
    fillings(root)
    (root / "data/quick/bench.dvc").write_text("outs:\n- md5: a\n")
    assert fillings(root) == (2, 1)
    (root / "data/quick/bench.dvc").write_text("outs:\n- md5: b\n")
    assert fillings(root) == (3, 1)


def test_a_record_that_came_from_others_is_indexed(root):
    fillings(root)
    put(root, a_run(a=ran("1")))
    assert fillings(root) == (2, 1)
    assert fillings(root) == (2, 1)


@pytest.mark.parametrize("name", [".psr/mlflow.db", "data/results.duckdb"])
def test_what_was_deleted_is_filled_again(root, name):
    fillings(root)
    (root / name).unlink()
    assert fillings(root) == (1, 1)


def test_a_server_keeps_its_own_and_needs_no_file_here(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    fillings(root)
    before = (root / ".psr/mlflow.db").read_text()
    (root / ".psr/mlflow.db").rename(root / "moved")
    publish.track(root, "quick")
    assert not (root / ".psr/mlflow.db").exists()
    assert (root / "moved").read_text() == before
