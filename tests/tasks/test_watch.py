"""A process knows whether its parents live, and ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tasks.engine import watch

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import subprocess, time
from tasks.engine import watch
watch.follow()
print(subprocess.Popen(["sleep", "99"]).pid, flush=True)
time.sleep(99)
"""


def running(pid: int) -> bool:
    """A process that ends between two looks has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(pid: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while running(pid):
        assert time.monotonic() < end, f"{pid} still runs"
        time.sleep(0.05)


def test_this_process_is_alive_and_another_of_its_number_is_not():
    me = watch.identity(os.getpid())
    assert watch.alive(me)
    assert not watch.alive(f"{os.getpid()}:1")


def test_a_zombie_and_a_gone_process_are_not_alive():
    process = subprocess.Popen(["sleep", "0.01"])
    who = watch.identity(process.pid)
    time.sleep(0.3)
    assert not watch.alive(who)  # not waited for yet
    process.wait()
    assert not watch.alive(who)


def test_nothing_is_watched_without_a_reason():
    assert watch.parents({}) == []


def test_a_reproduction_and_the_dvc_process_above_shells_are_watched():
    here = watch.identity(os.getpid())
    assert watch.parents({watch.PARENT: "1:2"}) == ["1:2"]
    code = "import os; from tasks import watch; print(watch.parents({'DVC_STAGE': 'x'})[0])"
    said = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{code}"; true'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == here


def test_a_killed_parent_takes_the_child_and_its_children_along():
    parent = subprocess.Popen(["sleep", "99"])
    env = {**os.environ, watch.PARENT: watch.identity(parent.pid)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    grandchild = int(child.stdout.readline())
    assert child.poll() is None
    os.kill(parent.pid, signal.SIGKILL)  # and not waited for: a zombie is dead
    wait_for_end(grandchild)
    assert child.wait(timeout=30) == -signal.SIGKILL
    child.stdout.close()
    parent.wait()


def test_a_child_whose_group_is_someone_elses_ends_alone():
    leader = subprocess.Popen(["sleep", "99"], process_group=0)
    parent = subprocess.Popen(["sleep", "99"])
    env = {**os.environ, watch.PARENT: watch.identity(parent.pid)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, process_group=leader.pid
    )
    grandchild = int(child.stdout.readline())
    parent.kill()
    wait_for_end(grandchild)
    assert child.wait(timeout=30) == -signal.SIGKILL
    assert leader.poll() is None  # of the same group, and lives to see it
    leader.kill()
    leader.wait()
    child.stdout.close()
    parent.wait()
