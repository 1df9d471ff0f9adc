"""What a killed DVC leaves behind is mended, and what a living one holds is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.engine.repair import keep, repair, writing

WHOLE = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n"


def rwlock(root: Path, text: str) -> Path:
    path = root / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def held_by(pid: int) -> str:
    return json.dumps(
        {"read": {"/data": [{"pid": pid, "cmd": "dvc repro"}]}, "write": {"/out": {"pid": pid, "cmd": "dvc"}}}
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"read": {"/a": [{"pi', held_by(2**22 - 3)])
def test_a_damaged_or_dead_lock_is_dropped(tmp_path, text):
    path = rwlock(tmp_path, text)
    repair(tmp_path, print)
    assert not path.exists()


def test_the_lock_of_a_zombie_is_dropped(tmp_path):
    zombie = subprocess.Popen(["true"])
    time.sleep(0.3)
    path = rwlock(tmp_path, held_by(zombie.pid))
    repair(tmp_path, print)
    zombie.wait()
    assert not path.exists()


def test_only_what_the_living_hold_stays(tmp_path):
    locks = json.loads(held_by(os.getpid()))
    locks["write"]["/dead"] = {"pid": 2**22 - 3, "cmd": "dvc"}
    locks["read"]["/data"].append({"pid": 2**22 - 3, "cmd": "dvc"})
    path = rwlock(tmp_path, json.dumps(locks))
    repair(tmp_path, print)
    assert json.loads(path.read_text()) == json.loads(held_by(os.getpid()))


def test_the_lock_of_a_living_process_stays(tmp_path):
    path = rwlock(tmp_path, held_by(os.getpid()))
    repair(tmp_path, print)
    assert path.exists()


def test_a_lock_older_than_the_process_that_now_has_the_number_is_dropped(tmp_path):
    path = rwlock(tmp_path, held_by(os.getpid()))
    os.utime(path, (time.time() - 9e6, time.time() - 9e6))
    repair(tmp_path, print)
    assert not path.exists()


@pytest.mark.parametrize(
    "damage", ["", "schema: '2.0'\nstages:\n  a:\n    cmd: [", "stages: 3\nschema: '2.0'\n", "- x\n"]
)
def test_a_damaged_dvc_lock_is_put_back(tmp_path, damage):
    lock, said = tmp_path / "dvc.lock", []
    lock.write_text(WHOLE)
    keep(tmp_path)
    lock.write_text(damage)
    keep(tmp_path)  # a damaged one is not kept
    repair(tmp_path, said.append)
    assert lock.read_text() == WHOLE
    assert "dvc.lock was damaged" in said[0]


def test_a_whole_dvc_lock_is_left_alone(tmp_path):
    lock = tmp_path / "dvc.lock"
    lock.write_text(WHOLE)
    keep(tmp_path)
    lock.write_text(WHOLE + "  b:\n    cmd: y\n")
    repair(tmp_path, print)
    assert "b:" in lock.read_text()


def test_a_lock_that_a_killed_run_was_writing_is_put_back_though_it_can_be_read(tmp_path):
    lock, said = tmp_path / "dvc.lock", []
    lock.write_text(WHOLE)
    with suppress(KeyError), writing(tmp_path):
        lock.write_text("schema: '2.0'\nstages: {}\n")
        raise KeyError  # as a kill: the context is not left well
    repair(tmp_path, said.append)
    assert lock.read_text() == WHOLE
    assert len(said) == 1
    with writing(tmp_path):
        lock.write_text("schema: '2.0'\nstages: {}\n")
    repair(tmp_path, said.append)
    assert lock.read_text() == "schema: '2.0'\nstages: {}\n"


def test_a_damaged_lock_without_a_copy_is_removed(tmp_path):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  a:\n    deps:\n    - pat")
    repair(tmp_path, print)
    assert not (tmp_path / "dvc.lock").exists()
